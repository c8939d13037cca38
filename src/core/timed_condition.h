// A condition variable whose time limits are those of an injected clock.
#pragma once

#include <functional>
#include <stop_token>

#include "core/clock.h"
#include "core/event_count.h"
#include "core/mutex.h"

namespace celslm {

// As ConditionVariable: `done` runs under the mutex and is annotated CELSLM_REQUIRES(mutex); the mutex is held when a wait
// returns. The clock must outlive this.
class TimedCondition {
 public:
  explicit TimedCondition(const Clock& clock) : clock_(clock) {}

  // With or without the mutex held.
  void notify_all() { events_.add(); }

  // Waits until done() is true or `time` has passed; returns what done() returned last.
  template <typename Done>
  bool wait_for(Mutex& mutex, Duration time, Done done) CELSLM_REQUIRES(mutex) {
    return wait_for(mutex, std::stop_token(), time, std::move(done));
  }
  // The same, or until `stop` is requested.
  template <typename Done>
  bool wait_for(Mutex& mutex, std::stop_token stop, Duration time, Done done) CELSLM_REQUIRES(mutex) {
    const std::stop_callback wake(stop, [this] { notify_all(); });
    const TimePoint until = clock_.now() + time;
    for (;;) {
      const std::uint64_t seen = events_.value();
      if (std::invoke(done)) return true;
      if (stop.stop_requested() || clock_.now() >= until) return false;
      mutex.unlock();
      clock_.wait(events_, seen, until);
      mutex.lock();
    }
  }

 private:
  const Clock& clock_;
  EventCount events_;
};

}  // namespace celslm
