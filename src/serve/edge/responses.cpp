#include "serve/edge/responses.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "serve/edge/quiet_stream.h"
#include "serve/edge/response_extension.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
// Takes the answer from the loop to the writer, event by event.
struct Responses::Run {
  const CompletionParts& parts;
  PreparedRequest prepared;
  std::shared_ptr<Generation> generation;
  ResponsesWriter writer;
  QuietStream quiet;
  AnswerParser parser = prepared.parser();
  std::optional<Error> error{};

  // Whether all of it was sent; false as soon as `send` is, or the client has gone.
  bool run(const BodySink& send) {
    if (!send(writer.begin())) return false;
    for (;;) {
      const auto piece = generation->take(kStreamPatience);
      if (!piece) {
        // The loop looks after the client of a complete answer.
        if (prepared.request.stream && !quiet.look_after(send)) return false;
        continue;
      }
      quiet.wrote();
      if (piece->error) {
        error = piece->error;
        return send(writer.fail(*piece->error));
      }
      if (const std::string events = writer.add(parser.add(piece->text)); !events.empty() && !send(events)) return false;
      if (piece->finish) return finish(*piece, send);
    }
  }

 private:
  bool finish(const GenerationPiece& last, const BodySink& send) {
    parts.metrics.finished(generation->request, last.usage, last.times);
    if (*last.finish == FinishReason::kCancelled) return false;
    const std::string rest = writer.add(parser.flush());
    const auto extension = response_extension(generation->request, last, parts.directory.cloud_trouble());
    return send(rest + writer.end(*last.finish, last.usage, extension));
  }
};

HttpResponse Responses::answer(Result<ResponsesRequest> request, const HttpRequest& http) {
  if (!request) return error_response(request.error());
  if (const std::string& model = request->completion.model; !model.empty() && model != parts_.model_name)
    return model_not_found(model, parts_.model_name);
  const auto created = std::chrono::duration_cast<std::chrono::seconds>(parts_.clock.wall().time_since_epoch()).count();
  ResponsesWriter writer(*request, parts_.model_name, fmt::format("{:x}{:06x}", created, n_answers_.fetch_add(1)), created);
  auto prepared = parts_.preparation.prepare(std::move(request->completion), http.client);
  if (!prepared) return completion_refusal(prepared.error());
  if (!prepared->too_long.empty()) return error_response(ApiError::kContextLengthExceeded, prepared->too_long);
  prepared->generation.client_gone = prepared->request.stream ? http.unreachable : http.disconnected;
  auto generation = parts_.loop.submit(std::move(prepared->generation));
  if (!generation) return completion_refusal(generation.error());
  const bool streamed = prepared->request.stream;
  auto run = std::make_shared<Run>(parts_, *std::move(prepared), *std::move(generation), std::move(writer),
                                   QuietStream(http, parts_.clock));
  if (!streamed) return complete(*run);
  auto events = [run](const BodySink& send) {
    const bool sent = run->run(send);
    if (!sent) run->generation->cancel();
    return sent;
  };
  return {.content_type = "text/event-stream",
          .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}},
          .stream = std::move(events)};
}

HttpResponse Responses::complete(Run& run) {
  const bool done = run.run([](std::string_view) { return true; });
  if (!done) run.generation->cancel();
  if (run.error) return completion_refusal(*run.error);
  if (!done) return error_response(ApiError::kCancelled, "the client disconnected");
  return json_response(run.writer.response());
}

}  // namespace celslm
