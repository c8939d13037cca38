#include "serve/edge/responses.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "net/http_stream.h"
#include "serve/edge/answer_follower.h"
#include "serve/edge/response_extension.h"
#include "serve/route/forwarder.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

// Takes the answer from the loop to the writer, event by event; the events go to a stream, or nowhere until all is there.
class ResponsesAnswer final : public AnswerFollower {
 public:
  ResponsesAnswer(const CompletionParts& parts, const PreparedRequest& prepared,
                  const std::shared_ptr<Generation>& generation, ResponsesWriter writer, std::shared_ptr<KeyUse> key_use,
                  nlohmann::json notes)
      : AnswerFollower({generation}, parts.loop, parts.writers),
        parts_(parts),
        parser_(prepared.parser()),
        writer_(std::move(writer)),
        key_use_(std::move(key_use)),
        notes_(std::move(notes)) {}

  void begin(std::shared_ptr<HttpReply> reply) {
    reply_ = std::move(reply);
    reply_->on_gone([self = shared_from_this()] { self->cancel(); });
    writer_.begin();
    follow();
  }
  void stream(std::shared_ptr<BodyWriter> body) {
    body_ = std::move(body);
    body_->on_change([self = std::static_pointer_cast<ResponsesAnswer>(shared_from_this())] {
      if (self->body_->gone()) self->cancel();
    });
    if (!send(writer_.begin())) cancel();
    follow();
  }

 private:
  bool take(GenerationPiece piece) override {
    if (piece.error) return fail(*piece.error);
    if (const std::string events = writer_.add(parser_.add(piece.text)); !events.empty() && !send(events)) return abort();
    return !piece.finish || finish(piece);
  }
  bool fail(const Error& error) {
    const std::string event = writer_.fail(error);
    if (reply_) reply_->send(completion_refusal(error));
    if (send(event)) end();
    return false;
  }
  bool finish(const GenerationPiece& last) {
    const GenerationRequest& request = text(0).request;
    parts_.metrics.finished(request, last.usage, last.times);
    if (*last.finish == FinishReason::kCancelled) return abort();
    const std::string rest = writer_.add(parser_.flush());
    nlohmann::json extension = response_extension(request, last, parts_.engine, parts_.directory.cloud_trouble());
    if (!notes_.is_null()) extension.update(notes_);
    const std::string ending = writer_.end(*last.finish, last.usage, extension);
    if (send(rest + ending)) end();
    return false;
  }
  bool send(std::string events) { return !body_ || body_->push(std::move(events)); }
  void end() {
    if (body_) body_->end();
    if (reply_) reply_->send(json_response(writer_.response()));
  }
  bool abort() {
    if (body_) body_->abort();
    if (reply_) reply_->send(error_response(ApiError::kCancelled, "the client disconnected"));
    return false;
  }

  const CompletionParts& parts_;
  AnswerParser parser_;
  ResponsesWriter writer_;
  const std::shared_ptr<KeyUse> key_use_;  // lasts until the answer's end
  const nlohmann::json notes_;
  std::shared_ptr<HttpReply> reply_;  // one of the two
  std::shared_ptr<BodyWriter> body_;
};

}  // namespace

HttpResponse Responses::answer(Result<ResponsesRequest> request, const HttpRequest& http, nlohmann::json notes) {
  if (!request) return error_response(request.error());
  if (const std::string& model = request->completion.model; !model.empty() && model != parts_.model_name)
    return model_not_found(model, parts_.model_name);
  const auto created = std::chrono::duration_cast<std::chrono::seconds>(parts_.clock.wall().time_since_epoch()).count();
  ResponsesWriter writer(*request, parts_.model_name, fmt::format("{:x}{:06x}", created, n_answers_.fetch_add(1)), created);
  auto prepared = parts_.preparation.prepare(std::move(request->completion), http.client, http.caller.tenant);
  if (!prepared) return completion_refusal(prepared.error());
  if (!prepared->too_long.empty()) return error_response(ApiError::kContextLengthExceeded, prepared->too_long);
  prepared->generation.client_gone = prepared->request.stream ? http.unreachable : http.disconnected;
  prepared->generation.pay = payment(http.caller.use.get());
  auto generation = parts_.loop.submit(std::move(prepared->generation));
  if (!generation) return completion_refusal(generation.error());
  const bool streamed = prepared->request.stream;
  const auto answer = std::make_shared<ResponsesAnswer>(parts_, *prepared, *generation, std::move(writer), http.caller.use,
                                                        std::move(notes));
  if (streamed) return event_stream([answer](std::shared_ptr<BodyWriter> to) { answer->stream(std::move(to)); });
  return {.deferred = [answer](std::shared_ptr<HttpReply> reply) { answer->begin(std::move(reply)); }};
}

}  // namespace celslm
