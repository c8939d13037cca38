#include "serve/batch/sequence.h"

#include <algorithm>

namespace celslm {

Sequence::Sequence(std::shared_ptr<Generation> generation, TokenChoice choice, std::uint64_t number, TimePoint now)
    : generation_(std::move(generation)),
      number_(number),
      choice_(std::move(choice)),
      assembler_(request().stop),
      context_(request().context),
      n_context_(request().n_context()),
      tokens_(request().prompt),
      n_prompt_(static_cast<int>(tokens_.size())),
      submitted_(now) {}

void Sequence::leave_context() {
  tokens_.insert(tokens_.begin(), context_->tokens.begin(), context_->tokens.begin() + n_context_);
  n_prompt_ += n_context_;
  n_context_ = 0;
  context_ = nullptr;
}

void Sequence::preempt() {
  own_.reset();
  hidden = {};
  layer = 0;
  phase_ = Phase::kPrompt;
}

void Sequence::begin_running(TimePoint now) {
  if (started_ == TimePoint{}) started_ = now;
}

void Sequence::note_context_ready(TimePoint now) {
  if (context_ready_ == TimePoint{}) context_ready_ = now;
}

void Sequence::begin_answer(TimePoint now) {
  phase_ = Phase::kAnswer;
  if (first_token_ == TimePoint{}) first_token_ = now;
}

void Sequence::accept(const Text& text, std::span<const float> logits, TimePoint now) {
  const int n_top = request().logprobs ? request().top_logprobs : 0;
  if (auto* sampler = std::get_if<Sampler>(&choice_)) return take(text, sampler->sample(logits, n_top), now);
  // Still under way: this request was preempted and computed again meanwhile, and these are the same logits.
  if (choosing()) return;
  std::get<ConstrainedChoice>(choice_).begin(logits, n_top);
  end_choice(text, now);
}

bool Sequence::choosing() const {
  const auto* constrained = std::get_if<ConstrainedChoice>(&choice_);
  return constrained != nullptr && constrained->under_way();
}

void Sequence::wait_for_choice(Duration time) {
  if (choosing()) std::get<ConstrainedChoice>(choice_).wait_briefly(time);
}

bool Sequence::end_choice(const Text& text, TimePoint now) {
  if (phase_ == Phase::kEnded || !choosing()) return false;
  const auto chosen = std::get<ConstrainedChoice>(choice_).poll();
  if (!chosen) return false;
  if (*chosen) {
    take(text, **chosen, now);
  } else {
    fail(chosen->error());
  }
  return true;
}

void Sequence::take(const Text& text, const Sampled& sampled, TimePoint now) {
  ++produced_;
  if (text.ends_generation(sampled.token)) return finish(FinishReason::kStop, now);

  const bool shown = std::ranges::contains(request().shown, sampled.token);
  GenerationPiece piece{.text = assembler_.add(text.piece(sampled.token, shown))};
  if (request().logprobs) {
    TokenText token{.bytes = text.piece(sampled.token, true), .logprob = sampled.logprob};
    for (const TokenLogprob& other : sampled.top) token.top.emplace_back(text.piece(other.token, true), other.logprob);
    piece.tokens.push_back(std::move(token));
  }
  if (!piece.text.empty() || !piece.tokens.empty()) generation_->put(std::move(piece));
  if (assembler_.stopped()) return finish(FinishReason::kStop, now);
  if (produced_ == request().max_tokens) return finish(FinishReason::kLength, now);
  tokens_.push_back(sampled.token);
}

void Sequence::finish(FinishReason reason, TimePoint now) {
  if (phase_ == Phase::kEnded) return;
  const bool began = first_token_ != TimePoint{};
  GenerationPiece piece{.text = assembler_.flush(), .finish = reason};
  piece.usage = {.prompt_tokens = n_context_ + n_prompt_,
                 .cached_tokens = n_context_ + std::min(reused_, n_prompt_),
                 .completion_tokens = produced_};
  piece.times = {.queue = started_ == TimePoint{} ? now - submitted_ : started_ - submitted_,
                 .context = context_ready_ == TimePoint{} ? Duration{} : context_ready_ - started_,
                 .prefill = prefill_,
                 .first_token = began ? first_token_ - submitted_ : Duration{},
                 .decode = began ? now - first_token_ : Duration{}};
  piece.left_context = request().context != nullptr && context_ == nullptr;
  generation_->put(std::move(piece));
  phase_ = Phase::kEnded;
  finish_reason_ = reason;
}

void Sequence::fail(const Error& error) {
  if (phase_ == Phase::kEnded) return;
  generation_->put({.error = error});
  phase_ = Phase::kEnded;
  error_ = error;
}

}  // namespace celslm
