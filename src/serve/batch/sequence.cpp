#include "serve/batch/sequence.h"

#include <algorithm>

namespace celslm {

Sequence::Sequence(std::shared_ptr<Generation> generation, Sampler sampler, std::uint64_t number, TimePoint now)
    : generation_(std::move(generation)),
      number_(number),
      sampler_(std::move(sampler)),
      assembler_(request().stop),
      tokens_(request().prompt),
      submitted_(now) {}

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
  const Sampled sampled = sampler_.sample(logits, request().logprobs ? request().top_logprobs : 0);
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
  piece.usage = {.prompt_tokens = n_context() + static_cast<int>(request().prompt.size()),
                 .cached_tokens = n_context() + std::min(reused_, static_cast<int>(request().prompt.size())),
                 .completion_tokens = produced_};
  piece.times = {.queue = started_ == TimePoint{} ? now - submitted_ : started_ - submitted_,
                 .context = context_ready_ == TimePoint{} ? Duration{} : context_ready_ - started_,
                 .prefill = prefill_,
                 .first_token = began ? first_token_ - submitted_ : Duration{},
                 .decode = began ? now - first_token_ : Duration{}};
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
