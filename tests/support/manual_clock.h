// Virtual time: it advances only when a test advances it.
#pragma once

#include <algorithm>
#include <atomic>
#include <vector>

#include "core/event_count.h"
#include "core/mutex.h"

namespace celslm::testing_support {

// Thread-safe. Threads that wait in a TimedCondition with this clock sleep until they are notified or the test advances time
// past their deadline. Call wait_for_sleepers() before advance() to be sure that they are already waiting.
class ManualClock final : public Clock {
 public:
  TimePoint now() const override { return TimePoint(Duration(now_ns_.load())); }
  std::chrono::system_clock::time_point wall() const override {
    return std::chrono::system_clock::time_point(
        std::chrono::duration_cast<std::chrono::system_clock::duration>(now().time_since_epoch()));
  }
  void wait(EventCount& events, std::uint64_t seen, TimePoint until) const override CELSLM_EXCLUDES(mutex_) {
    const Sleeper sleeper{&events, seen, until};
    {
      const MutexLock lock(mutex_);
      sleepers_.push_back(sleeper);
    }
    slept_.notify_all();
    events.wait(seen, [&] { return now() >= until; });
    const MutexLock lock(mutex_);
    sleepers_.erase(std::ranges::find(sleepers_, sleeper));
  }

  void advance(Duration time) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);  // keeps the sleepers' event counts alive
    now_ns_ += time.count();
    for (const Sleeper& sleeper : sleepers_) sleeper.events->recheck();
  }
  // Returns once at least n threads are waiting, not counting those that have been notified or whose deadline has passed.
  void wait_for_sleepers(int n) const CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    slept_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) {
      return std::ranges::count_if(sleepers_,
                                   [&](const Sleeper& s) { return s.events->value() == s.seen && now() < s.until; }) >= n;
    });
  }

 private:
  struct Sleeper {
    EventCount* events = nullptr;
    std::uint64_t seen = 0;
    TimePoint until{};
    bool operator==(const Sleeper&) const = default;
  };

  std::atomic<Duration::rep> now_ns_{Duration(std::chrono::hours(1)).count()};  // TimePoint{} means "never" in some places
  mutable Mutex mutex_;
  mutable ConditionVariable slept_;
  mutable std::vector<Sleeper> sleepers_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm::testing_support
