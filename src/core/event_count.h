// What a thread waits for that a clock may wake: a count of events that differs from the count it saw before.
#pragma once

#include <cstdint>
#include <functional>

#include "core/clock.h"
#include "core/mutex.h"

namespace celslm {

// A thread reads value(), looks whether what it wants is there, and if not waits for another value: an event that falls
// between the look and the wait is not missed, and neither needs a lock of the caller's. Thread-safe.
class EventCount {
 public:
  std::uint64_t value() const CELSLM_EXCLUDES(mutex_);
  // Counts an event and wakes every thread that waits.
  void add() CELSLM_EXCLUDES(mutex_);

  // The rest is for clocks. Each wait ends when the count differs from `seen`; the first one also when the system's clock
  // reaches `until`, the second one when `expired`, which is called under this object's mutex, is true after a recheck().
  void wait_until(std::uint64_t seen, TimePoint until) CELSLM_EXCLUDES(mutex_);
  void wait(std::uint64_t seen, const std::function<bool()>& expired) CELSLM_EXCLUDES(mutex_);
  void recheck() CELSLM_EXCLUDES(mutex_);

 private:
  mutable Mutex mutex_;
  ConditionVariable changed_;
  std::uint64_t count_ CELSLM_GUARDED_BY(mutex_) = 0;
};

}  // namespace celslm
