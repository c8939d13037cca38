#include "core/paced_thread.h"

#include <gtest/gtest.h>

#include <atomic>

#include "tests/support/eventually.h"
#include "tests/support/manual_clock.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing_support::eventually;
using testing_support::ManualClock;

class PacedThreadTest : public testing::Test {
 protected:
  void start() {
    thread_.start([this](const std::stop_token&) -> Duration {
      ++steps_;
      return 1h;
    });
  }
  bool has_done(int n) {
    return eventually([&] { return steps_ == n; });
  }

  ManualClock clock_;
  std::atomic<int> steps_ = 0;
  PacedThread thread_{clock_};
};

TEST_F(PacedThreadTest, AStepFollowsWhenThePauseIsOver) {
  start();
  ASSERT_TRUE(has_done(1));
  clock_.wait_for_sleepers(1);
  clock_.advance(59min);
  EXPECT_EQ(steps_, 1);
  clock_.advance(1min);
  EXPECT_TRUE(has_done(2));
}

TEST_F(PacedThreadTest, IsWokenAndStoppedWithoutTimePassing) {
  start();
  ASSERT_TRUE(has_done(1));
  thread_.wake();
  EXPECT_TRUE(has_done(2));
  EXPECT_TRUE(thread_.stop());
  EXPECT_FALSE(thread_.stop());
  EXPECT_EQ(steps_, 2);
}

TEST_F(PacedThreadTest, MayNeverHaveBeenStarted) {
  EXPECT_FALSE(thread_.stop());
}

TEST(BackoffTest, DoublesUntilItSucceeds) {
  Backoff backoff(1s, 5s);
  EXPECT_EQ(backoff.after(true), 1s);
  EXPECT_EQ(backoff.after(false), 2s);
  EXPECT_EQ(backoff.after(false), 4s);
  EXPECT_EQ(backoff.after(false), 5s);
  EXPECT_EQ(backoff.after(true), 1s);
}

}  // namespace
}  // namespace celslm
