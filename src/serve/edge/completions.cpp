#include "serve/edge/completions.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "serve/edge/completion_answer.h"
#include "serve/route/forwarder.h"
#include "serve/wire/errors.h"

namespace celslm {

HttpResponse completion_refusal(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kNotFound: return error_response(ApiError::kUnknownContext, error.message);
    default: return error_response(error);
  }
}

std::function<void(const Usage&)> payment(const KeyUse* use) {
  if (use == nullptr) return {};
  return [meter = use->meter()](const Usage& usage) {
    meter->charge(usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens);
  };
}

HttpResponse model_not_found(const std::string& wanted, const std::string& served) {
  return error_response(ApiError::kModelNotFound, fmt::format("no model '{}' here; this edge serves '{}'", wanted, served));
}

HttpResponse Completions::answer(Result<CompletionRequest> request, const HttpRequest& http, const nlohmann::json& notes) {
  if (!request) return error_response(request.error());
  if (!request->model.empty() && request->model != parts_.model_name) {
    return model_not_found(request->model, parts_.model_name);
  }
  auto begun = begin(*std::move(request), http);
  if (auto* refused = std::get_if<HttpResponse>(&begun)) return std::move(*refused);
  BegunCompletion& completion = std::get<BegunCompletion>(begun);
  if (!notes.is_null()) completion.notes = notes;
  return write(std::move(completion));
}

HttpResponse Completions::write(BegunCompletion completion) {
  if (!completion.request.stream) {
    const auto complete = std::make_shared<CompleteAnswer>(parts_, std::move(completion));
    return {.deferred = [complete](std::shared_ptr<HttpReply> reply) { complete->begin(std::move(reply)); }};
  }
  const auto stream = std::make_shared<StreamedAnswer>(parts_, std::move(completion));
  return event_stream([stream](std::shared_ptr<BodyWriter> body) { stream->begin(std::move(body)); });
}

std::variant<BegunCompletion, HttpResponse> Completions::begin(CompletionRequest request, const HttpRequest& http,
                                                               const Adjust& adjust) {
  BegunCompletion out;
  std::vector<GenerationRequest> wanted;
  const std::size_t n_prompts = std::max<std::size_t>(request.prompts.size(), 1);
  for (std::size_t i = 0; i < n_prompts; ++i) {
    if (!request.prompts.empty()) request.prompt = auto(request.prompts[i]);
    auto prepared = parts_.preparation.prepare(request, http.client, http.caller.tenant);
    if (!prepared) return completion_refusal(prepared.error());
    if (!prepared->too_long.empty()) return error_response(ApiError::kContextLengthExceeded, prepared->too_long);
    out.echoes.push_back(prepared->echo);
    prepared->generation.client_gone = request.stream ? http.unreachable : http.disconnected;
    prepared->generation.pay = payment(http.caller.use.get());
    for (int k = 0; k < request.n; ++k) {
      wanted.push_back(prepared->generation);
      wanted.back().choice = static_cast<int>(wanted.size()) - 1;
      wanted.back().sampler.seed += static_cast<std::uint32_t>(k);  // or they would all be the same text
    }
    if (i == 0) out.prepared = *std::move(prepared);
  }
  out.request = std::move(request);
  out.key_use = http.caller.use;
  if (adjust) adjust(wanted);
  auto texts = parts_.loop.submit(std::move(wanted));
  if (!texts) return completion_refusal(texts.error());
  out.texts = *std::move(texts);
  out.created_unix_s = unix_seconds();
  out.unique = fmt::format("{:x}{:06x}", out.created_unix_s, n_answers_.fetch_add(1));
  return out;
}

std::int64_t Completions::unix_seconds() const {
  return std::chrono::duration_cast<std::chrono::seconds>(parts_.clock.wall().time_since_epoch()).count();
}

}  // namespace celslm
