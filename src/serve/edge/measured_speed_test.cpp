#include "serve/edge/measured_speed.h"

#include <gtest/gtest.h>

namespace celslm {
namespace {

using namespace std::chrono_literals;

TEST(MeasuredSpeedTest, WhatIsAssumedCountsUntilRequestsHaveShownIt) {
  MeasuredSpeed speed;
  EXPECT_EQ(speed.decode(), 0);
  speed.assume(500, 20);
  EXPECT_EQ(speed.prefill(), 500);
  EXPECT_EQ(speed.decode(), 20);
  speed.finished({.prompt_tokens = 150, .cached_tokens = 50, .completion_tokens = 11}, {.prefill = 100ms, .decode = 200ms});
  EXPECT_NEAR(speed.prefill(), 1000, 1e-6);
  EXPECT_NEAR(speed.decode(), 50, 1e-6);
}

TEST(MeasuredSpeedTest, AFewTokensShowNothing) {
  MeasuredSpeed speed;
  speed.assume(500, 20);
  speed.finished({.prompt_tokens = 55, .cached_tokens = 50, .completion_tokens = 3}, {.prefill = 100ms, .decode = 200ms});
  EXPECT_EQ(speed.prefill(), 500);
  EXPECT_EQ(speed.decode(), 20);
}

TEST(MeasuredSpeedTest, LoadsAreAveraged) {
  MeasuredSpeed speed;
  EXPECT_EQ(speed.context_load_s(), 0);
  speed.loaded(1);
  speed.loaded(3);
  EXPECT_EQ(speed.context_load_s(), 2);
}

}  // namespace
}  // namespace celslm
