#include "net/byte_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/support/manual_clock.h"
#include "tests/support/readable_log.h"

namespace celslm {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using testing_support::ManualClock;

class ByteBudgetTest : public testing::Test {
 protected:
  void use(std::uint64_t bytes) {
    auto lease = budget_.reserve(bytes);
    ASSERT_TRUE(lease);
    lease->settle(bytes);
  }
  ManualClock clock_;
  testing_support::ReadableLog log_;
  ByteBudget budget_{3'200'000, clock_, log_.log()};
};

TEST_F(ByteBudgetTest, WhatIsTakenIsGoneAndWhatIsNotUsedComesBack) {
  {
    auto lease = budget_.reserve(1'000'000);
    ASSERT_TRUE(lease);
    EXPECT_EQ(budget_.available(), 2'100'000U);  // 1/32 is for small calls
    lease->settle(200'000);
  }
  EXPECT_EQ(budget_.available(), 2'900'000U);
}

TEST_F(ByteBudgetTest, ALeaseThatIsDroppedTakesNothing) {
  {
    const auto lease = budget_.reserve(1'000'000);
  }
  EXPECT_EQ(budget_.available(), 3'100'000U);
}

TEST_F(ByteBudgetTest, MoreThanWasTakenIsCountedNonetheless) {
  auto lease = budget_.reserve(1000);
  lease->settle(3'000'000);
  EXPECT_EQ(budget_.available(), 100'000U);
  auto more = budget_.reserve(1000);
  more->settle(9'000'000);
  EXPECT_EQ(budget_.available(), 0U);
  EXPECT_FALSE(budget_.reserve(1));
}

TEST_F(ByteBudgetTest, ABytesHourIsOverAnHourAfterItWasTakenAndNotBefore) {
  use(2'000'000);
  clock_.advance(minutes(30));
  use(1'000'000);
  clock_.advance(minutes(29) + seconds(59));
  EXPECT_EQ(budget_.available(), 100'000U);
  clock_.advance(minutes(1) + seconds(1));
  EXPECT_EQ(budget_.available(), 2'100'000U);
  clock_.advance(minutes(30));
  EXPECT_EQ(budget_.available(), 3'100'000U);
}

TEST_F(ByteBudgetTest, NoHourHasMoreThanTheLimitHoweverItIsAskedFor) {
  std::vector<std::uint64_t> by_minute;
  for (int minute = 0; minute < 600; ++minute) {
    std::uint64_t used = 0;
    for (const std::uint64_t wanted : {900'000U, 70'000U, 16'000U, 500U}) {
      if (minute % 97 < 40 && wanted > 100'000) continue;  // pauses of the large ones
      auto lease = budget_.reserve(wanted);
      if (!lease) continue;
      used += wanted - static_cast<std::uint64_t>(minute % 7) * 10;
      lease->settle(wanted - static_cast<std::uint64_t>(minute % 7) * 10);
    }
    by_minute.push_back(used);
    clock_.advance(minutes(1));
  }
  std::uint64_t most = 0;
  for (std::size_t first = 0; first + 60 <= by_minute.size(); ++first) {
    std::uint64_t sum = 0;
    for (std::size_t i = first; i < first + 60; ++i) sum += by_minute[i];
    most = std::max(most, sum);
  }
  EXPECT_LE(most, 3'200'000U);
  EXPECT_GT(most, 3'100'000U);
}

TEST_F(ByteBudgetTest, SmallCallsHaveAShareThatLargeOnesCannotTake) {
  use(3'100'000);
  EXPECT_FALSE(budget_.reserve(ByteBudget::kSmallCall + 1));
  use(ByteBudget::kSmallCall);
}

TEST_F(ByteBudgetTest, ACallThatGrowsTakesMoreWhileThereIsMore) {
  auto lease = budget_.reserve(1000);
  ASSERT_TRUE(lease->extend(3'000'000));
  EXPECT_FALSE(lease->extend(200'000));
  EXPECT_EQ(lease->bytes(), 3'001'000U);
  clock_.advance(minutes(59));
  ASSERT_TRUE(lease->extend(90'000));
  lease->settle(3'000'000);
  clock_.advance(minutes(2));  // it counts from when it ended
  EXPECT_EQ(budget_.available(), 100'000U);
}

TEST_F(ByteBudgetTest, TheLogReportsOnceAnHourThatItIsEmpty) {
  const auto reports = [&] { return std::ranges::count(log_.text(), '\n'); };
  use(3'100'000);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(budget_.reserve(1'000'000));
  EXPECT_EQ(reports(), 1);
  EXPECT_THAT(log_.text(), testing::HasSubstr("--max-bytes-per-hour"));
  clock_.advance(minutes(60));
  EXPECT_FALSE(budget_.reserve(9'000'000));
  EXPECT_EQ(reports(), 2);
}

TEST_F(ByteBudgetTest, ThreadsTogetherTakeNoMoreThanThereIs) {
  std::atomic<std::uint64_t> used = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        while (auto lease = budget_.reserve(1000)) {
          lease->settle(900);
          used += 900;
        }
      });
    }
  }
  EXPECT_LE(used, 3'200'000U);
  EXPECT_GT(used, 3'190'000U);  // small calls get the last of it, too
}

}  // namespace
}  // namespace celslm
