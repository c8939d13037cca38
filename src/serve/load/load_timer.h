// Calls loads back when time alone may have changed something for them.
#pragma once

#include <functional>
#include <map>
#include <thread>

#include "core/clock.h"
#include "core/mutex.h"
#include "core/spawn.h"
#include "core/timed_condition.h"

namespace celslm {

// One thread for all loads of an edge, made by the first start(). Thread-safe; the clock must outlive this.
class LoadTimer {
 public:
  LoadTimer(const Clock& clock, Spawn spawn) : clock_(clock), spawn_(std::move(spawn)), changed_(clock) {}

  // kOverloaded where there is no thread for it; may be tried again.
  Status start() CELSLM_EXCLUDES(mutex_);
  // `call` runs at that time, on the timer's thread, with no lock held; it must not block.
  void call_at(TimePoint when, std::function<void()> call) CELSLM_EXCLUDES(mutex_);

 private:
  void run(const std::stop_token& stop) CELSLM_EXCLUDES(mutex_);
  bool due() const CELSLM_REQUIRES(mutex_) { return !calls_.empty() && calls_.begin()->first <= clock_.now(); }

  const Clock& clock_;
  const Spawn spawn_;
  Mutex mutex_;
  TimedCondition changed_;
  std::multimap<TimePoint, std::function<void()>> calls_ CELSLM_GUARDED_BY(mutex_);
  std::jthread thread_ CELSLM_GUARDED_BY(mutex_);  // last: it ends before what it uses
};

}  // namespace celslm
