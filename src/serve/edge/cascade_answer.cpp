#include "serve/edge/cascade_answer.h"

#include <algorithm>
#include <utility>

#include "serve/wire/errors.h"

namespace celslm {
namespace {

// Of the second answer: that of the first one's sampler would be the same text where it is greedy.
constexpr float kSecondTemperature = 0.7F;

}  // namespace

bool can_be_judged(const CompletionRequest& request) {
  return request.n == 1 && request.prompts.size() <= 1 && request.max_tokens != 0;
}

std::variant<BegunCompletion, HttpResponse> begin_judged(Completions& completions, CompletionRequest request,
                                                         const HttpRequest& http, const CascadeRule& rule) {
  return completions.begin(std::move(request), http, [&](std::vector<GenerationRequest>& wanted) {
    GenerationRequest second = wanted.front();
    GenerationRequest& first = wanted.front();
    first.logprobs = true;
    first.top_logprobs = std::max(first.top_logprobs, kConfidenceTop);
    if (!rule.needs_second_answer()) return;
    second.choice = 1;
    second.logprobs = second.prompt_logprobs = false;
    second.sampler.temperature = std::max(second.sampler.temperature, kSecondTemperature);
    ++second.sampler.seed;
    wanted.push_back(std::move(second));
  });
}

CascadeAnswer::CascadeAnswer(Completions& completions, BegunCompletion begun, CascadeRule rule, HandOver hand_over)
    : AnswerFollower(begun.texts, completions.parts().loop, completions.parts().writers),
      completions_(completions),
      begun_(std::move(begun)),
      rule_(std::move(rule)),
      hand_over_(std::move(hand_over)),
      left_(begun_.texts.size()) {}

void CascadeAnswer::begin(std::shared_ptr<HttpReply> reply) {
  reply_ = std::move(reply);
  reply_->on_gone([self = shared_from_this()] { self->cancel(); });
  follow();
}

bool CascadeAnswer::take(GenerationPiece piece) {
  if (piece.error) {
    reply_->send(completion_refusal(*piece.error));
    return false;
  }
  if (piece.finish == FinishReason::kCancelled) {
    reply_->send(error_response(ApiError::kCancelled, "the client disconnected"));
    return false;
  }
  const bool ended = piece.finish.has_value();
  if (piece.choice == 0) {
    meter_.add(piece.tokens);
    text_ += piece.text;
    pieces_.push_back(std::move(piece));
  } else {
    second_text_ += piece.text;
  }
  if (!ended || --left_ > 0) return true;
  return decide();
}

nlohmann::json CascadeAnswer::judgement(const Confidence& confidence, const char* by) const {
  return {{"answered_by", by},
          {"measure", rule_.measure},
          {"value", rule_.score(confidence)},
          {"threshold", rule_.threshold},
          {"confidence", to_json(confidence)}};
}

bool CascadeAnswer::decide() {
  Confidence confidence = meter_.value();
  if (begun_.texts.size() > 1) confidence.agreement = agreement(text_, second_text_);
  if (rule_.keeps(confidence)) {
    completions_.parts().metrics.judged("small");
    reply_->send(replay(completions_, begun_, pieces_, judgement(confidence, "small")));
    return false;
  }
  const GenerationPiece& last = pieces_.back();
  completions_.parts().metrics.speed().finished(last.usage, last.times);
  completions_.parts().metrics.judged("large");
  const auto keep = [&completions = completions_, begun = begun_, pieces = pieces_,
                     small = judgement(confidence, "small")](const nlohmann::json& notes) {
    nlohmann::json cascade = small;
    cascade.update(notes);
    return replay(completions, begun, pieces, std::move(cascade));
  };
  reply_->send(hand_over_(judgement(confidence, "large"), keep));
  return false;
}

// The pieces once more, through a channel of their own, to whoever writes answers.
HttpResponse CascadeAnswer::replay(Completions& completions, BegunCompletion begun,
                                   const std::vector<GenerationPiece>& pieces, nlohmann::json cascade) {
  const auto again =
      std::make_shared<Generation>(begun.texts.front()->request, std::make_shared<PieceQueue>(completions.parts().clock));
  for (const GenerationPiece& piece : pieces) again->put(piece);
  begun.texts = {again};
  begun.notes["cascade"] = std::move(cascade);
  return completions.write(std::move(begun));
}

}  // namespace celslm
