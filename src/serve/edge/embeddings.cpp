#include "serve/edge/embeddings.h"

#include <nlohmann/json.hpp>

#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

constexpr Duration kPatience = std::chrono::seconds(10);  // the loop looks after the client

}  // namespace

HttpResponse Embeddings::answer(Result<EmbeddingRequest> request, const HttpRequest& http) {
  if (!request) return error_response(request.error());
  if (!request->model.empty() && request->model != parts_.model_name) {
    return model_not_found(request->model, parts_.model_name);
  }
  std::vector<GenerationRequest> wanted;
  for (const Prompt& input : request->inputs) {
    CompletionRequest text{.chat = false};
    text.prompt = input;
    text.max_tokens = 0;
    auto prepared = parts_.preparation.prepare(std::move(text), http.client);
    if (!prepared) return completion_refusal(prepared.error());
    if (!prepared->too_long.empty()) return error_response(ApiError::kContextLengthExceeded, prepared->too_long);
    wanted.push_back(std::move(prepared->generation));
    wanted.back().embed = true;
    wanted.back().choice = static_cast<int>(wanted.size()) - 1;
    wanted.back().client_gone = http.disconnected;
  }
  const auto texts = parts_.loop.submit(std::move(wanted));
  return texts ? collect(*request, *texts) : completion_refusal(texts.error());
}

HttpResponse Embeddings::collect(const EmbeddingRequest& request, const std::vector<std::shared_ptr<Generation>>& texts) {
  std::vector<std::vector<float>> out(texts.size());
  Usage usage;
  for (std::size_t left = texts.size(); left > 0;) {
    auto piece = texts.front()->take(kPatience);
    if (!piece) continue;
    if (piece->error) {
      for (const auto& text : texts) text->cancel();
      return completion_refusal(*piece->error);
    }
    if (!piece->finish) continue;
    if (*piece->finish == FinishReason::kCancelled) return error_response(ApiError::kCancelled, "the client disconnected");
    parts_.metrics.finished(texts[static_cast<std::size_t>(piece->choice)]->request, piece->usage, piece->times);
    usage.prompt_tokens += piece->usage.prompt_tokens;
    out[static_cast<std::size_t>(piece->choice)] = std::move(piece->embedding);
    --left;
  }
  return json_response(embedding_response(request, parts_.model_name, out, usage));
}

}  // namespace celslm
