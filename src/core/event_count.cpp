#include "core/event_count.h"

namespace celslm {

std::uint64_t EventCount::value() const {
  const MutexLock lock(mutex_);
  return count_;
}

void EventCount::add() {
  {
    const MutexLock lock(mutex_);
    ++count_;
  }
  changed_.notify_all();
}

void EventCount::wait_until(std::uint64_t seen, TimePoint until) {
  const MutexLock lock(mutex_);
  changed_.wait_until(mutex_, until, [&]() CELSLM_REQUIRES(mutex_) { return count_ != seen; });
}

void EventCount::wait(std::uint64_t seen, const std::function<bool()>& expired) {
  const MutexLock lock(mutex_);
  changed_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return count_ != seen || expired(); });
}

void EventCount::recheck() {
  {
    const MutexLock lock(mutex_);
  }  // a thread that has just found that it must wait does so before it is woken
  changed_.notify_all();
}

void SystemClock::wait(EventCount& events, std::uint64_t seen, TimePoint until) const {
  events.wait_until(seen, until);
}

}  // namespace celslm
