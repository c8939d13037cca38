#include "serve/edge/completions.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "serve/edge/response_extension.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr auto kDisconnectPoll = 200ms;  // how soon a client's disconnection is noticed

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

HttpResponse Completions::answer(Result<CompletionRequest> request, const HttpRequest& http) {
  if (!request) return error_response(request.error());
  if (!request->model.empty() && request->model != parts_.model_name) {
    return model_not_found(request->model, parts_.model_name);
  }
  auto prepared = parts_.preparation.prepare(*std::move(request), http.client);
  if (!prepared) return completion_refusal(prepared.error());
  auto generation = parts_.loop.submit(std::move(prepared->generation));
  if (!generation) return completion_refusal(generation.error());
  if (!prepared->request.stream) return complete(*prepared, **generation, http.disconnected);
  // The stream runs after this has returned, so it keeps what it needs.
  auto events = [this, prepared = *std::move(prepared), generation = *std::move(generation),
                 disconnected = http.disconnected](const BodySink& send) {
    const bool sent = stream(prepared, *generation, disconnected, send);
    if (!sent) generation->cancel();
    return sent;
  };
  return {.content_type = "text/event-stream", .headers = {{"Cache-Control", "no-cache"}}, .stream = std::move(events)};
}

HttpResponse Completions::complete(const PreparedRequest& prepared, Generation& generation,
                                   const Disconnected& disconnected) {
  const std::string unique = next_id();
  AnswerMessage answer{.content = prepared.echo, .reasoning = {}, .tool_calls = {}};
  AnswerParser parser = prepared.parser();
  std::vector<TokenText> tokens;
  for (;;) {
    auto piece = generation.take(kDisconnectPoll);
    if (!piece) {
      if (disconnected && disconnected()) generation.cancel();
      continue;
    }
    if (piece->error) return completion_refusal(*piece->error);
    answer.add(parser.add(piece->text), unique);
    std::ranges::move(piece->tokens, std::back_inserter(tokens));
    if (!piece->finish) continue;
    parts_.metrics.finished(generation.request, piece->usage, piece->times);
    if (*piece->finish == FinishReason::kCancelled) return error_response(ApiError::kCancelled, "the client disconnected");
    answer.add(parser.flush(), unique);
    return json_response(writer(prepared.request, unique)
                             .response(answer, tokens, *piece->finish, piece->usage, extension(generation, *piece)));
  }
}

// False when the client has gone.
bool Completions::stream(const PreparedRequest& prepared, Generation& generation, const Disconnected& disconnected,
                         const BodySink& send) {
  CompletionWriter out = writer(prepared.request, next_id());
  AnswerParser parser = prepared.parser();
  if (prepared.request.chat && !send(out.first_event())) return false;
  if (!prepared.echo.empty() && !send(out.delta_event({.content = prepared.echo, .reasoning = {}, .calls = {}}, {})))
    return false;
  for (;;) {
    const auto piece = generation.take(kDisconnectPoll);
    if (!piece) {
      if (disconnected && disconnected()) return false;
      continue;
    }
    if (piece->error) return send(CompletionWriter::error_event(*piece->error)) && send(CompletionWriter::done_event());
    AnswerDelta delta = parser.add(piece->text);
    if (piece->finish) delta.add(parser.flush());
    const bool has_content = !delta.empty() || !piece->tokens.empty();
    if (has_content && !send(out.delta_event(delta, piece->tokens))) return false;
    if (piece->finish) return send_end(prepared, generation, *piece, out, send);
  }
}

bool Completions::send_end(const PreparedRequest& prepared, const Generation& generation, const GenerationPiece& last,
                           const CompletionWriter& out, const BodySink& send) {
  parts_.metrics.finished(generation.request, last.usage, last.times);
  if (!send(out.last_event(*last.finish, extension(generation, last)))) return false;
  if (prepared.request.include_usage && !send(out.usage_event(last.usage))) return false;
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
