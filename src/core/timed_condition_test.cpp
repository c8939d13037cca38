#include "core/timed_condition.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/manual_clock.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing_support::ManualClock;

class TimedConditionTest : public testing::Test {
 protected:
  bool wait(Duration time, std::stop_token stop = {}) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return condition_.wait_for(mutex_, stop, time, [&]() CELSLM_REQUIRES(mutex_) { return open_; });
  }
  void open() CELSLM_EXCLUDES(mutex_) {
    {
      const MutexLock lock(mutex_);
      open_ = true;
    }
    condition_.notify_all();
  }

  ManualClock clock_;
  TimedCondition condition_{clock_};
  Mutex mutex_;
  bool open_ CELSLM_GUARDED_BY(mutex_) = false;
};

TEST_F(TimedConditionTest, EndsWithoutWaitingWhereTheConditionHoldsOrNoTimeIsLeft) {
  EXPECT_FALSE(wait(0s));
  open();
  EXPECT_TRUE(wait(1h));
}

TEST_F(TimedConditionTest, EndsWhenItIsNotifiedThoughNoTimePasses) {
  const std::jthread opener([&] {
    clock_.wait_for_sleepers(1);
    open();
  });
  EXPECT_TRUE(wait(1h));
}

TEST_F(TimedConditionTest, WaitsOnAfterANotificationThatChangesNothing) {
  const std::jthread opener([&] {
    clock_.wait_for_sleepers(1);
    condition_.notify_all();
    clock_.advance(59min);
    open();
  });
  EXPECT_TRUE(wait(1h));
}

TEST_F(TimedConditionTest, EndsWhenTheClockPassesItsLimitAndNotBefore) {
  const TimePoint before = clock_.now();
  const std::jthread mover([&] {
    clock_.wait_for_sleepers(1);
    clock_.advance(59min);
    clock_.advance(1min);
  });
  EXPECT_FALSE(wait(1h));
  EXPECT_EQ(clock_.now() - before, 1h);
}

TEST_F(TimedConditionTest, EndsWhenAStopIsRequested) {
  std::stop_source stop;
  const std::jthread stopper([&] {
    clock_.wait_for_sleepers(1);
    stop.request_stop();
  });
  EXPECT_FALSE(wait(1h, stop.get_token()));
  EXPECT_FALSE(wait(1h, stop.get_token()));
}

TEST(SystemClockTest, EndsAWaitAtItsLimit) {
  const SystemClock clock;
  EventCount events;
  const TimePoint until = clock.now() + 1ms;
  clock.wait(events, events.value(), until);
  EXPECT_GE(clock.now(), until);
}

TEST(SystemClockTest, EndsAWaitAtAnEvent) {
  const SystemClock clock;
  EventCount events;
  const auto seen = events.value();
  const std::jthread other([&] { events.add(); });
  clock.wait(events, seen, clock.now() + 1h);
  EXPECT_NE(events.value(), seen);
}

}  // namespace
}  // namespace celslm
