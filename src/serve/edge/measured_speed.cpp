#include "serve/edge/measured_speed.h"

namespace celslm {
namespace {

// Of a few tokens most of the time is what a step takes however few there are.
constexpr int kLeastPromptTokens = 32;
constexpr int kLeastAnswerTokens = 8;

}  // namespace

void MeasuredSpeed::assume(double prefill, double decode) {
  const MutexLock lock(mutex_);
  assumed_prefill_ = prefill;
  assumed_decode_ = decode;
}

void MeasuredSpeed::finished(const Usage& usage, const GenerationTimes& times) {
  const int prompt = usage.prompt_tokens - usage.cached_tokens;
  const int answer = usage.completion_tokens - 1;  // the first one's time is the prompt's
  const MutexLock lock(mutex_);
  if (prompt >= kLeastPromptTokens && times.prefill > Duration::zero()) prefill_s_.add(seconds(times.prefill) / prompt);
  if (answer >= kLeastAnswerTokens && times.decode > Duration::zero()) decode_s_.add(seconds(times.decode) / answer);
}

void MeasuredSpeed::loaded(double took_s) {
  const MutexLock lock(mutex_);
  load_s_.add(took_s);
}

double MeasuredSpeed::context_load_s() const {
  const MutexLock lock(mutex_);
  return load_s_.mean_or(0);
}

double MeasuredSpeed::prefill() const {
  const MutexLock lock(mutex_);
  return prefill_s_.known() ? 1 / prefill_s_.mean() : assumed_prefill_;
}

double MeasuredSpeed::decode() const {
  const MutexLock lock(mutex_);
  return decode_s_.known() ? 1 / decode_s_.mean() : assumed_decode_;
}

}  // namespace celslm
