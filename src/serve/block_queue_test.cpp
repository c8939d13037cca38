#include <gtest/gtest.h>

#include <thread>

#include "serve/pack_fetch.h"

namespace celslm {
namespace {

// 2 layers, 300 tokens = 2 chunks: 8 blocks, 4 of each layer.
PackIdentity identity() {
  PackIdentity out;
  out.tokens.resize(300);
  out.model = {.architecture = "llama", .n_layers = 2, .n_kv_heads = 1, .head_dim = 8};
  return out;
}

class BlockQueueTest : public testing::Test {
 protected:
  void announce(int n, std::uint32_t bytes = 1000) {
    for (int i = 0; i < n; ++i) {
      queue_.announce({.offset = next_offset_, .bytes = bytes});
      next_offset_ += bytes;
    }
  }
  const PackIdentity identity_ = identity();
  BlockQueue queue_{identity_};
  std::uint64_t next_offset_ = 0;
};

TEST_F(BlockQueueTest, GroupsAdjacentBlocksButNeverAcrossLayers) {
  announce(8);
  const auto first = *queue_.take();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->first, 0);
  EXPECT_EQ(first->entries.size(), 4U);
  EXPECT_EQ(first->range().first, 0U);
  EXPECT_EQ(first->range().end, 4000U);
  const auto second = *queue_.take();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->first, 4);
  EXPECT_FALSE(*queue_.take());
}

TEST_F(BlockQueueTest, KeepsGroupsSmallEnoughForSeveralConnections) {
  announce(8, 200'000);
  EXPECT_EQ((*queue_.take())->entries.size(), 2U);
}

TEST_F(BlockQueueTest, HandsOutEveryBlockOnceToManyTakers) {
  std::vector<int> taken(8);
  {
    std::vector<std::jthread> takers;
    std::mutex mutex;
    for (int i = 0; i < 4; ++i) {
      takers.emplace_back([&] {
        for (;;) {
          const auto group = queue_.take();
          if (!group || !*group) return;
          const std::scoped_lock lock(mutex);
          for (std::size_t k = 0; k < (*group)->entries.size(); ++k) ++taken[static_cast<std::size_t>((*group)->first) + k];
        }
      });
    }
    for (int i = 0; i < 8; ++i) announce(1);
  }
  EXPECT_EQ(taken, std::vector<int>(8, 1));
}

TEST_F(BlockQueueTest, GivesItsErrorToEveryWaiter) {
  std::vector<std::jthread> takers;
  std::atomic<int> failed{0};
  for (int i = 0; i < 3; ++i) {
    takers.emplace_back([&] { failed += queue_.take() ? 0 : 1; });
  }
  queue_.close(Error{ErrorKind::kUnavailable, "the cloud died"});
  takers.clear();
  EXPECT_EQ(failed, 3);
}

TEST_F(BlockQueueTest, FailsWhenClosedBeforeEveryBlockWasAnnounced) {
  announce(4);
  queue_.close(std::nullopt);
  EXPECT_TRUE(queue_.take());
  EXPECT_FALSE(queue_.take());
}

TEST_F(BlockQueueTest, KeepsTheFirstError) {
  queue_.close(Error{ErrorKind::kMismatch, "a lying block"});
  queue_.close(std::nullopt);
  const auto group = queue_.take();
  ASSERT_FALSE(group);
  EXPECT_EQ(group.error().message, "a lying block");
}

}  // namespace
}  // namespace celslm
