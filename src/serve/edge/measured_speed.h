// How fast this edge's engine has answered lately, for predictions: its own, and those of other edges about it.
#pragma once

#include "core/mutex.h"
#include "plan/estimate.h"
#include "serve/batch/generation.h"
#include "serve/openai/openai.h"

namespace celslm {

// Means over the last few requests, at whatever load they had. Thread-safe.
class MeasuredSpeed {
 public:
  // Tokens a second until requests have shown them; 0: unknown.
  void assume(double prefill, double decode) CELSLM_EXCLUDES(mutex_);
  void finished(const Usage& usage, const GenerationTimes& times) CELSLM_EXCLUDES(mutex_);
  // A context has become complete, so many seconds after its load began.
  void loaded(double took_s) CELSLM_EXCLUDES(mutex_);
  // Tokens a second of one request; 0: unknown.
  double prefill() const CELSLM_EXCLUDES(mutex_);
  double decode() const CELSLM_EXCLUDES(mutex_);
  // What a load takes, whatever the context's length; 0: unknown.
  double context_load_s() const CELSLM_EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_;
  Ewma prefill_s_ CELSLM_GUARDED_BY(mutex_);  // for each token
  Ewma decode_s_ CELSLM_GUARDED_BY(mutex_);
  Ewma load_s_ CELSLM_GUARDED_BY(mutex_);
  double assumed_prefill_ CELSLM_GUARDED_BY(mutex_) = 0;
  double assumed_decode_ CELSLM_GUARDED_BY(mutex_) = 0;
};

}  // namespace celslm
