#include "core/mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "core/clock.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr Duration kForever = 1h;

class Turnstile {
 public:
  void pass() CELSLM_EXCLUDES(mutex_) {
    {
      const MutexLock lock(mutex_);
      ++passed_;
    }
    changed_.notify_all();
  }
  int passed() CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return passed_;
  }
  void wait_for_everyone(int n) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    changed_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return passed_ >= n; });
  }
  bool wait_or_stop(int n, std::stop_token stop) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return changed_.wait(mutex_, std::move(stop), [&]() CELSLM_REQUIRES(mutex_) { return passed_ >= n; });
  }
  bool wait_at_most(Duration time, int n) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return changed_.wait_for(mutex_, time, [&]() CELSLM_REQUIRES(mutex_) { return passed_ >= n; });
  }
  bool wait_at_most(Duration time, int n, std::stop_token stop) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return changed_.wait_for(mutex_, std::move(stop), time, [&]() CELSLM_REQUIRES(mutex_) { return passed_ >= n; });
  }
  bool wait_until(TimePoint time, int n) CELSLM_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return changed_.wait_until(mutex_, time, [&]() CELSLM_REQUIRES(mutex_) { return passed_ >= n; });
  }
  // True if another thread could pass while this one had released its lock early.
  bool lets_others_in_between() CELSLM_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const int before = passed_;
    lock.unlock();
    std::jthread([&] { pass(); }).join();
    lock.lock();
    return passed_ == before + 1;
  }

 private:
  Mutex mutex_;
  ConditionVariable changed_;
  int passed_ CELSLM_GUARDED_BY(mutex_) = 0;
};

TEST(MutexTest, OneThreadAtATime) {
  Turnstile turnstile;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; ++i) turnstile.pass();
      });
    }
  }
  EXPECT_EQ(turnstile.passed(), 4000);
}

TEST(MutexTest, ALockMayBeReleasedEarlyAndTakenAgain) {
  Turnstile turnstile;
  EXPECT_TRUE(turnstile.lets_others_in_between());
}

TEST(ConditionVariableTest, ANotificationWakesEveryKindOfWait) {
  Turnstile turnstile;
  std::atomic<int> woken = 0;
  {
    std::vector<std::jthread> waiting;
    waiting.emplace_back([&] {
      turnstile.wait_for_everyone(1);
      ++woken;
    });
    waiting.emplace_back([&](std::stop_token stop) { woken += turnstile.wait_or_stop(1, stop); });
    waiting.emplace_back([&] { woken += turnstile.wait_at_most(kForever, 1); });
    waiting.emplace_back([&](std::stop_token stop) { woken += turnstile.wait_at_most(kForever, 1, stop); });
    waiting.emplace_back([&] { woken += turnstile.wait_until(SystemClock().now() + kForever, 1); });
    turnstile.pass();
    for (std::jthread& thread : waiting) thread.join();
  }
  EXPECT_EQ(woken, 5);
}

TEST(ConditionVariableTest, AStopWakesAWaitThatTakesAToken) {
  Turnstile turnstile;
  std::stop_source stop;
  bool forever = true;
  bool timed = true;
  {
    const std::jthread a([&] { forever = turnstile.wait_or_stop(1, stop.get_token()); });
    const std::jthread b([&] { timed = turnstile.wait_at_most(kForever, 1, stop.get_token()); });
    stop.request_stop();
  }
  EXPECT_FALSE(forever);
  EXPECT_FALSE(timed);
}

TEST(ConditionVariableTest, TimeEndsATimedWait) {
  Turnstile turnstile;
  EXPECT_FALSE(turnstile.wait_at_most(1ms, 1));
  EXPECT_FALSE(turnstile.wait_at_most(1ms, 1, std::stop_token()));
  EXPECT_FALSE(turnstile.wait_until(SystemClock().now() + 1ms, 1));
}

}  // namespace
}  // namespace celslm
