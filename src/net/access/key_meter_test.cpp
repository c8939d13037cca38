#include "net/access/key_meter.h"

#include <gtest/gtest.h>

#include "tests/support/manual_clock.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing_support::ManualClock;

class KeyMeterTest : public testing::Test {
 protected:
  // Seconds to wait; 0 for a request that was taken, and has ended.
  std::int64_t request(const KeyLimits& limits) {
    const auto use = KeyUse::begin(meter_, limits);
    return use ? 0 : use.error().retry_after.count();
  }
  ManualClock clock_;
  std::shared_ptr<KeyMeter> meter_ = std::make_shared<KeyMeter>(clock_);
};

TEST_F(KeyMeterTest, WithoutLimitsEverythingIsTaken) {
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(request({}), 0);
}

TEST_F(KeyMeterTest, RequestsOfAMinuteMayComeAtOnceAndThenComeBackSteadily) {
  const KeyLimits limits{.requests_per_minute = 6};
  for (int i = 0; i < 6; ++i) ASSERT_EQ(request(limits), 0) << i;
  EXPECT_EQ(request(limits), 10) << "one every ten seconds";
  clock_.advance(9s);
  EXPECT_EQ(request(limits), 1);
  clock_.advance(1s);
  EXPECT_EQ(request(limits), 0);
  EXPECT_EQ(request(limits), 10);
  clock_.advance(1h);
  for (int i = 0; i < 6; ++i) ASSERT_EQ(request(limits), 0) << "no more than a minute's worth is saved up";
  EXPECT_NE(request(limits), 0);
}

TEST_F(KeyMeterTest, TokensArePaidForAfterwards) {
  const KeyLimits limits{.tokens_per_minute = 600};
  ASSERT_EQ(request(limits), 0);
  meter_->charge(1200);
  EXPECT_EQ(request(limits), 61) << "600 below zero, and one more is needed";
  clock_.advance(60s);
  EXPECT_EQ(request(limits), 1);
  clock_.advance(1s);
  EXPECT_EQ(request(limits), 0);
}

TEST_F(KeyMeterTest, RequestsAtTheSameTimeCountUntilTheyEnd) {
  const KeyLimits limits{.concurrency = 2};
  auto first = KeyUse::begin(meter_, limits);
  const auto second = KeyUse::begin(meter_, limits);
  ASSERT_TRUE(first && second);
  const auto third = KeyUse::begin(meter_, limits);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().limit, "2 requests at the same time");
  first->reset();
  EXPECT_EQ(request(limits), 0);
}

TEST_F(KeyMeterTest, ARefusedRequestCostsNothing) {
  const KeyLimits limits{.requests_per_minute = 60, .concurrency = 1};
  const auto running = KeyUse::begin(meter_, limits);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(request(limits), 1);
  EXPECT_EQ(request({.requests_per_minute = 60}), 0) << "of 60 one was used";
}

}  // namespace
}  // namespace celslm
