// Time as an argument: whatever measures or waits takes a Clock, so that tests run in virtual time without sleeping.
#pragma once

#include <chrono>
#include <cstdint>

namespace celslm {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

class EventCount;

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
  virtual std::chrono::system_clock::time_point wall() const = 0;  // for people and APIs only, never for intervals
  // Blocks until `events` differs from `seen` or it is `until` by this clock. Called by TimedCondition.
  virtual void wait(EventCount& events, std::uint64_t seen, TimePoint until) const = 0;
};

class SystemClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
  std::chrono::system_clock::time_point wall() const override { return std::chrono::system_clock::now(); }
  void wait(EventCount& events, std::uint64_t seen, TimePoint until) const override;
};

inline double milliseconds(Duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}
inline double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace celslm
