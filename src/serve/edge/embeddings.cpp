#include "serve/edge/embeddings.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "net/http_stream.h"
#include "serve/edge/answer_follower.h"
#include "serve/wire/errors.h"
#include "serve/wire/protocol.h"

namespace celslm {
namespace {

class EmbeddingAnswer final : public AnswerFollower {
 public:
  EmbeddingAnswer(const CompletionParts& parts, EmbeddingRequest request, std::vector<std::shared_ptr<Generation>> texts,
                  std::shared_ptr<KeyUse> key_use)
      : AnswerFollower(std::move(texts), parts.loop, parts.writers),
        parts_(parts),
        request_(std::move(request)),
        key_use_(std::move(key_use)),
        out_(this->texts().size()),
        left_(out_.size()) {}

  void begin(std::shared_ptr<HttpReply> reply) {
    reply_ = std::move(reply);
    reply_->on_gone([self = shared_from_this()] { self->cancel(); });
    follow();
  }

 private:
  bool take(GenerationPiece piece) override {
    if (piece.error) return send(completion_refusal(*piece.error));
    if (!piece.finish) return true;
    if (*piece.finish == FinishReason::kCancelled)
      return send(error_response(ApiError::kCancelled, "the client disconnected"));
    parts_.metrics.finished(text(piece.choice).request, piece.usage, piece.times);
    usage_.prompt_tokens += piece.usage.prompt_tokens;
    out_[static_cast<std::size_t>(piece.choice)] = std::move(piece.embedding);
    if (--left_ > 0) return true;
    return send(json_response(embedding_response(request_, parts_.model_name, out_, usage_)));
  }
  bool send(HttpResponse response) {
    reply_->send(std::move(response));
    return false;
  }

  const CompletionParts& parts_;
  const EmbeddingRequest request_;
  const std::shared_ptr<KeyUse> key_use_;  // lasts until the answer's end
  std::vector<std::vector<float>> out_;
  Usage usage_;
  std::size_t left_;
  std::shared_ptr<HttpReply> reply_;
};

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
    auto prepared = parts_.preparation.prepare(std::move(text), http.client, http.caller.tenant);
    if (!prepared) return completion_refusal(prepared.error());
    if (!prepared->too_long.empty()) return error_response(ApiError::kContextLengthExceeded, prepared->too_long);
    wanted.push_back(std::move(prepared->generation));
    wanted.back().embed = true;
    wanted.back().choice = static_cast<int>(wanted.size()) - 1;
    wanted.back().client_gone = http.disconnected;
    wanted.back().pay = payment(http.caller.use.get());
  }
  auto texts = parts_.loop.submit(std::move(wanted));
  if (!texts) return completion_refusal(texts.error());
  const auto answer = std::make_shared<EmbeddingAnswer>(parts_, *std::move(request), *std::move(texts), http.caller.use);
  return {.deferred = [answer](std::shared_ptr<HttpReply> reply) { answer->begin(std::move(reply)); }};
}

}  // namespace celslm
