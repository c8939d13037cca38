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

HttpResponse refusal(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kNotFound: return error_response(ApiError::kUnknownContext, error.message);
    case ErrorKind::kOverloaded: return error_response(ApiError::kTooManyRequests, error.message);
    default: return error_response(error);
  }
}

}  // namespace

HttpResponse Completions::answer(Result<CompletionRequest> request, const HttpRequest& http) {
  if (!request) return error_response(request.error());
  if (!request->model.empty() && request->model != parts_.model_name) {
    return error_response(ApiError::kModelNotFound,
                          fmt::format("no model '{}' here; this edge serves '{}'", request->model, parts_.model_name));
  }
  auto prepared = parts_.preparation.prepare(*std::move(request));
  if (!prepared) return refusal(prepared.error());
  auto generation = parts_.loop.submit(std::move(prepared->generation));
  if (!generation) return refusal(generation.error());
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
  std::string text = prepared.echo;
  std::vector<TokenText> tokens;
  for (;;) {
    auto piece = generation.take(kDisconnectPoll);
    if (!piece) {
      if (disconnected && disconnected()) generation.cancel();
      continue;
    }
    if (piece->error) return refusal(*piece->error);
    text += piece->text;
    std::ranges::move(piece->tokens, std::back_inserter(tokens));
    if (!piece->finish) continue;
    parts_.metrics.finished(generation.request, piece->usage, piece->times);
    if (*piece->finish == FinishReason::kCancelled) return error_response(ApiError::kCancelled, "the client disconnected");
    return json_response(
        writer(prepared.request).response(text, tokens, *piece->finish, piece->usage, extension(generation, *piece)));
  }
}

// False when the client has gone.
bool Completions::stream(const PreparedRequest& prepared, Generation& generation, const Disconnected& disconnected,
                         const BodySink& send) {
  CompletionWriter out = writer(prepared.request);
  if (prepared.request.chat && !send(out.first_event())) return false;
  if (!prepared.echo.empty() && !send(out.delta_event(prepared.echo, {}))) return false;
  for (;;) {
    const auto piece = generation.take(kDisconnectPoll);
    if (!piece) {
      if (disconnected && disconnected()) return false;
      continue;
    }
    if (piece->error) return send(CompletionWriter::error_event(*piece->error)) && send(CompletionWriter::done_event());
    const bool has_content = !piece->text.empty() || !piece->tokens.empty();
    if (has_content && !send(out.delta_event(piece->text, piece->tokens))) return false;
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

CompletionWriter Completions::writer(const CompletionRequest& request) {
  const auto created = std::chrono::duration_cast<std::chrono::seconds>(parts_.clock.wall().time_since_epoch()).count();
  return {request, parts_.model_name, fmt::format("{:x}{:06x}", created, n_answers_.fetch_add(1)), created};
}

nlohmann::json Completions::extension(const Generation& generation, const GenerationPiece& last) const {
  return response_extension(generation.request, last.times, parts_.directory.cloud_trouble());
}

}  // namespace celslm
