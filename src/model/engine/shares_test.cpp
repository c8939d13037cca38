#include "model/engine/shares.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace celslm {
namespace {

TEST(SharesTest, EveryShareIsTakenOnceHoweverManyThreadsThereAre) {
  for (const int threads : {1, 2, 5}) {
    Shares shares;
    for (int round = 0; round < 3; ++round) {
      std::vector<std::atomic<int>> taken(static_cast<std::size_t>(threads * Shares::kEach));
      shares.restart();
      {
        std::vector<std::jthread> all;
        all.reserve(static_cast<std::size_t>(threads));
        for (int i = 0; i < threads; ++i) {
          all.emplace_back([&] {
            shares.take(Shares::kEach, threads, [&](int share, int n) {
              EXPECT_EQ(n, threads * Shares::kEach);
              ++taken[static_cast<std::size_t>(share)];
            });
          });
        }
      }
      for (const std::atomic<int>& times : taken) EXPECT_EQ(times, 1);
    }
  }
}

TEST(SharesTest, AThreadThatComesLateFindsNothing) {
  Shares shares;
  int taken = 0;
  const auto count = [&](int, int) { ++taken; };
  shares.take(4, 2, count);
  EXPECT_EQ(taken, 8);
  shares.take(4, 2, count);
  EXPECT_EQ(taken, 8);
}

}  // namespace
}  // namespace celslm
