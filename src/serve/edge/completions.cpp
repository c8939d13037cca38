#include "serve/edge/completions.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "serve/edge/quiet_stream.h"
#include "serve/edge/response_extension.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 10s;  // the loop looks after the client

}  // namespace

HttpResponse completion_refusal(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kNotFound: return error_response(ApiError::kUnknownContext, error.message);
    case ErrorKind::kOverloaded: return error_response(ApiError::kTooManyRequests, error.message);
    default: return error_response(error);
  }
}

HttpResponse model_not_found(const std::string& wanted, const std::string& served) {
  return error_response(ApiError::kModelNotFound, fmt::format("no model '{}' here; this edge serves '{}'", wanted, served));
}

// One text of an answer, as far as it has come.
struct Completions::Text {
  AnswerParser parser;
  AnswerMessage answer;
  std::vector<TokenText> tokens;
  std::optional<GenerationPiece> last;
};

void Completions::Running::cancel() const {
  for (const auto& text : texts) text->cancel();
}

HttpResponse Completions::answer(Result<CompletionRequest> request, const HttpRequest& http) {
  if (!request) return error_response(request.error());
  if (!request->model.empty() && request->model != parts_.model_name) {
    return model_not_found(request->model, parts_.model_name);
  }
  auto started = start(*std::move(request), http);
  if (auto* refused = std::get_if<HttpResponse>(&started)) return std::move(*refused);
  Running& running = std::get<Running>(started);
  if (!running.request.stream) return complete(running);
  // The stream runs after this has returned, so it keeps what it needs.
  auto events = [this, running = std::move(running),
                 client =
                     HttpRequest{.disconnected = http.disconnected, .unreachable = http.unreachable}](const BodySink& send) {
    const bool sent = stream(running, client, send);
    if (!sent) running.cancel();
    return sent;
  };
  return {.content_type = "text/event-stream",
          .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}},  // nginx would hold events back
          .stream = std::move(events)};
}

std::variant<Completions::Running, HttpResponse> Completions::start(CompletionRequest request, const HttpRequest& http) {
  Running out;
  std::vector<GenerationRequest> wanted;
  const std::size_t n_prompts = std::max<std::size_t>(request.prompts.size(), 1);
  for (std::size_t i = 0; i < n_prompts; ++i) {
    if (!request.prompts.empty()) request.prompt = request.prompts[i];
    auto prepared = parts_.preparation.prepare(request, http.client);
    if (!prepared) return completion_refusal(prepared.error());
    if (!prepared->too_long.empty()) return error_response(ApiError::kContextLengthExceeded, prepared->too_long);
    out.echoes.push_back(prepared->echo);
    prepared->generation.client_gone = request.stream ? http.unreachable : http.disconnected;
    for (int k = 0; k < request.n; ++k) {
      wanted.push_back(prepared->generation);
      wanted.back().choice = static_cast<int>(wanted.size()) - 1;
      wanted.back().sampler.seed += static_cast<std::uint32_t>(k);  // or they would all be the same text
    }
    if (i == 0) out.prepared = *std::move(prepared);
  }
  out.request = std::move(request);
  auto texts = parts_.loop.submit(std::move(wanted));
  if (!texts) return completion_refusal(texts.error());
  out.texts = *std::move(texts);
  return out;
}

namespace {

// Prompts count once however many texts go on from them.
Usage total(const std::vector<GenerationPiece>& ends, int n) {
  Usage out;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    out.completion_tokens += ends[i].usage.completion_tokens;
    if (i % static_cast<std::size_t>(n) != 0) continue;
    out.prompt_tokens += ends[i].usage.prompt_tokens;
    out.cached_tokens += ends[i].usage.cached_tokens;
  }
  return out;
}

}  // namespace

HttpResponse Completions::complete(const Running& running) {
  const std::string unique = next_id();
  std::vector<Text> texts;
  texts.reserve(running.texts.size());
  for (int i = 0; i < static_cast<int>(running.texts.size()); ++i)
    texts.push_back({.parser = running.prepared.parser(),
                     .answer = {.content = running.echo(i), .reasoning = {}, .tool_calls = {}},
                     .tokens = {},
                     .last = {}});
  for (std::size_t left = texts.size(); left > 0;) {
    auto piece = running.texts.front()->take(kPatience);
    if (!piece) continue;  // the loop looks after the client
    if (piece->error) {
      running.cancel();
      return completion_refusal(*piece->error);
    }
    Text& text = texts[static_cast<std::size_t>(piece->choice)];
    text.answer.add(text.parser.add(piece->text), unique);
    std::ranges::move(piece->prompt_tokens, std::back_inserter(text.tokens));
    std::ranges::move(piece->tokens, std::back_inserter(text.tokens));
    if (!piece->finish) continue;
    text.answer.add(text.parser.flush(), unique);
    parts_.metrics.finished(running.texts[static_cast<std::size_t>(piece->choice)]->request, piece->usage, piece->times);
    text.last = std::move(piece);
    --left;
  }
  const CompletionWriter out = writer(running.request, unique);
  nlohmann::json choices = nlohmann::json::array();
  std::vector<GenerationPiece> ends;
  for (const Text& text : texts) {
    if (*text.last->finish == FinishReason::kCancelled)
      return error_response(ApiError::kCancelled, "the client disconnected");
    choices.push_back(out.choice(text.last->choice, text.answer, text.tokens, *text.last->finish));
    ends.push_back(*text.last);
  }
  return json_response(
      out.response(std::move(choices), total(ends, running.request.n), extension(*running.texts.front(), ends.front())));
}

// False when the client has gone.
bool Completions::stream(const Running& running, const HttpRequest& http, const BodySink& send) {
  CompletionWriter out = writer(running.request, next_id());
  std::vector<Text> texts;
  const auto n_texts = static_cast<int>(running.texts.size());
  const auto echo = [&](int i) { return AnswerDelta{.content = running.echo(i), .reasoning = {}, .calls = {}}; };
  for (int i = 0; i < n_texts; ++i) {
    texts.push_back({.parser = running.prepared.parser(), .answer = {}, .tokens = {}, .last = {}});
    if (running.request.chat && !send(out.first_event(i))) return false;
    const bool with_tokens = running.texts.front()->request.prompt_logprobs;  // then they come together
    if (!running.echo(i).empty() && !with_tokens && !send(out.delta_event(echo(i), {}, i))) return false;
  }
  QuietStream quiet(http, parts_.clock);
  for (int left = n_texts; left > 0;) {
    auto piece = running.texts.front()->take(kStreamPatience);
    if (!piece) {
      if (!quiet.look_after(send)) return false;
      continue;
    }
    quiet.wrote();
    if (piece->error) {
      running.cancel();
      return send(CompletionWriter::error_event(*piece->error)) && send(CompletionWriter::done_event());
    }
    const int i = piece->choice;
    if (!piece->prompt_tokens.empty() && !send(out.delta_event(echo(i), piece->prompt_tokens, i))) return false;
    Text& text = texts[static_cast<std::size_t>(i)];
    AnswerDelta delta = text.parser.add(piece->text);
    if (piece->finish) delta.add(text.parser.flush());
    const bool has_content = !delta.empty() || !piece->tokens.empty();
    if (has_content && !send(out.delta_event(delta, piece->tokens, i))) return false;
    if (!piece->finish) continue;
    parts_.metrics.finished(running.texts[static_cast<std::size_t>(i)]->request, piece->usage, piece->times);
    if (*piece->finish == FinishReason::kCancelled) return false;
    text.last = std::move(piece);
    if (--left > 0 && !send(out.last_event(*text.last->finish, nullptr, i))) return false;
    if (left == 0) return send_end(running, texts, i, out, send);
  }
  return true;
}

bool Completions::send_end(const Running& running, const std::vector<Text>& texts, int last, const CompletionWriter& out,
                           const BodySink& send) {
  std::vector<GenerationPiece> ends;
  ends.reserve(texts.size());
  for (const Text& text : texts) ends.push_back(*text.last);
  const GenerationPiece& end = ends[static_cast<std::size_t>(last)];
  if (!send(out.last_event(*end.finish, extension(*running.texts.front(), ends.front()), last))) return false;
  if (running.request.include_usage && !send(out.usage_event(total(ends, running.request.n)))) return false;
  return send(CompletionWriter::done_event());
}

CompletionWriter Completions::writer(const CompletionRequest& request, const std::string& unique) const {
  return {request, parts_.model_name, unique, unix_seconds()};
}

std::int64_t Completions::unix_seconds() const {
  return std::chrono::duration_cast<std::chrono::seconds>(parts_.clock.wall().time_since_epoch()).count();
}

std::string Completions::next_id() {
  return fmt::format("{:x}{:06x}", unix_seconds(), n_answers_.fetch_add(1));
}

nlohmann::json Completions::extension(const Generation& generation, const GenerationPiece& last) const {
  return response_extension(generation.request, last, parts_.directory.cloud_trouble());
}

}  // namespace celslm
