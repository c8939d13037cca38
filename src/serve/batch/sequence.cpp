#include "serve/batch/sequence.h"

#include <algorithm>
#include <cmath>

#include "model/numeric/logits.h"

namespace celslm {
namespace {

TokenText in_words(const Text& text, Token token, float logprob, std::span<const TokenLogprob> top) {
  TokenText out{.bytes = text.piece(token, true), .logprob = logprob};
  for (const TokenLogprob& other : top) out.top.emplace_back(text.piece(other.token, true), other.logprob);
  return out;
}

}  // namespace

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

void Sequence::take_rows(std::span<const float> normed, int first, int n) {
  const std::size_t width = normed.size() / static_cast<std::size_t>(n);
  row_sum_.resize(width);
  for (int row = std::max(first, rows_taken_); row < first + n; ++row) {
    const auto values = normed.subspan(static_cast<std::size_t>(row - first) * width, width);
    for (std::size_t i = 0; i < width; ++i) row_sum_[i] += static_cast<double>(values[i]);
  }
  rows_taken_ = std::max(rows_taken_, first + n);
}

TokenText Sequence::token_text(const Text& text, Token token, std::span<const float> logits) const {
  const float log_sum = log_sum_exp(logits);
  return in_words(text, token, logits[static_cast<std::size_t>(token)] - log_sum,
                  most_probable(logits, request().top_logprobs, log_sum));
}

void Sequence::take_row_logits(const Text& text, std::span<const float> logits, int row) {
  const std::vector<Token>& prompt = request().prompt;
  if (prompt_tokens_.empty()) {
    prompt_tokens_.push_back({.bytes = text.piece(prompt.front(), true), .is_first = true});
    prompt_tokens_.front().is_shown = !request().begins_with_bos;
  }
  const auto next = static_cast<std::size_t>(row) + 1;
  if (next < prompt.size() && next == prompt_tokens_.size())
    prompt_tokens_.push_back(token_text(text, prompt[next], logits));
}

// Tokens whose text is certain, or that have none and stand where it is.
std::vector<TokenText> Sequence::certain_tokens() {
  std::vector<TokenText> out;
  while (!held_.empty() && (held_.front().begin < assembler_.certain_bytes() ||
                            (!assembler_.stopped() && held_.front().begin == generated_bytes_))) {
    out.push_back(std::move(held_.front().token));
    held_.pop_front();
  }
  return out;
}

void Sequence::send(const Text& text, const Sampled& sampled) {
  const bool shown = std::ranges::contains(request().shown, sampled.token);
  const std::string bytes = text.piece(sampled.token, shown);
  GenerationPiece piece{.text = assembler_.add(bytes)};
  if (request().logprobs) {
    held_.push_back({.token = in_words(text, sampled.token, sampled.logprob, sampled.top), .begin = generated_bytes_});
  }
  generated_bytes_ += bytes.size();
  piece.tokens = certain_tokens();
  if (!piece.text.empty() || !piece.tokens.empty()) generation_->put(std::move(piece));
}

void Sequence::accept(const Text& text, std::span<const float> logits, TimePoint now) {
  if (produced_ == 0 && !prompt_tokens_.empty()) generation_->put({.prompt_tokens = std::exchange(prompt_tokens_, {})});
  if (request().max_tokens == 0) return finish(FinishReason::kLength, now);
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
  send(text, sampled);
  if (assembler_.stopped()) return finish(FinishReason::kStop, now);
  if (produced_ == request().max_tokens) return finish(FinishReason::kLength, now);
  tokens_.push_back(sampled.token);
}

// The mean of the rows, of length 1.
std::vector<float> Sequence::embedding() const {
  double squares = 0;
  for (const double value : row_sum_) squares += value * value;
  const double scale = squares > 0 ? 1.0 / std::sqrt(squares) : 0.0;
  std::vector<float> out;
  out.reserve(row_sum_.size());
  for (const double value : row_sum_) out.push_back(static_cast<float>(value * scale));
  return out;
}

Usage Sequence::usage() const {
  return {.prompt_tokens = n_context_ + n_prompt_,
          .cached_tokens = n_context_ + std::min(reused_, n_prompt_),
          .completion_tokens = produced_};
}

// What never began cost nothing.
void Sequence::pay() const {
  if (request().pay && started_ != TimePoint{}) request().pay(usage());
}

void Sequence::finish(FinishReason reason, TimePoint now) {
  if (phase_ == Phase::kEnded) return;
  pay();
  const bool began = first_token_ != TimePoint{};
  GenerationPiece piece{.text = assembler_.flush(), .finish = reason};
  if (!assembler_.stopped()) {
    for (HeldToken& held : held_) piece.tokens.push_back(std::move(held.token));
  }
  if (request().embed) piece.embedding = embedding();
  piece.usage = usage();
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
  pay();
  generation_->put({.error = error});
  phase_ = Phase::kEnded;
  error_ = error;
}

}  // namespace celslm
