#include "serve/batch/prefix_cache.h"

#include <gmock/gmock.h>

#include <numeric>

#include "tests/support/manual_clock.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

class PrefixCacheTest : public testing::Test {
 protected:
  static std::vector<Token> upto(int n) {
    std::vector<Token> out(static_cast<std::size_t>(n));
    std::iota(out.begin(), out.end(), 0);
    return out;
  }
  std::shared_ptr<KvSegment> segment() const { return *KvSegment::create(config_, KvType::kF16, 0, 64); }
  std::shared_ptr<ResidentContext> context() const {
    return *ResidentContext::create(context_handle("c"), config_, Hash256{}, upto(3), KvType::kF16);
  }

  static PrefixCache::Place behind(std::shared_ptr<ResidentContext> context) {
    return {.context = std::move(context), .n_context = 3};
  }

  const ModelConfig config_{.n_layers = 2, .n_heads = 2, .n_kv_heads = 2, .head_dim = 8};
  testing_support::ManualClock clock_;
  MemoryLedger memory_{1000};
  PrefixCache cache_{clock_, memory_, {.most = 3, .max_age = std::chrono::minutes(10)}};
};

TEST_F(PrefixCacheTest, CountsTheTokensInCommon) {
  EXPECT_EQ(common_prefix(upto(5), upto(9)), 5);
  EXPECT_EQ(common_prefix(upto(5), std::vector<Token>{0, 1, 7}), 2);
  EXPECT_EQ(common_prefix({}, upto(3)), 0);
}

TEST_F(PrefixCacheTest, FindsTheLongestBeginning) {
  const auto longer = segment();
  cache_.keep({}, upto(10), segment(), 1);
  cache_.keep({}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99, 98}, longer, 1);
  const auto match = cache_.find({}, std::vector<Token>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99, 5});
  EXPECT_EQ(match.n_tokens, 11);
  EXPECT_EQ(match.segment, longer);
  EXPECT_EQ(cache_.find({}, std::vector<Token>{5}).n_tokens, 0);
}

TEST_F(PrefixCacheTest, AContinuedConversationReplacesItsBeginning) {
  cache_.keep({}, upto(10), segment(), 10);
  cache_.keep({}, upto(20), segment(), 20);
  EXPECT_EQ(cache_.size(), 1U);
  EXPECT_EQ(cache_.bytes(), 20U);
}

TEST_F(PrefixCacheTest, KvIsOnlyGoodBehindTheSameContext) {
  const auto a = context();
  const auto b = context();
  cache_.keep(behind(a), upto(10), segment(), 1);
  EXPECT_EQ(cache_.find(behind(a), upto(20)).n_tokens, 10);
  EXPECT_EQ(cache_.find(behind(b), upto(20)).n_tokens, 0);
  EXPECT_EQ(cache_.find({}, upto(20)).n_tokens, 0);
}

TEST_F(PrefixCacheTest, KvIsOnlyGoodBehindAsMuchOfItsContext) {
  const auto a = context();
  cache_.keep(behind(a), upto(10), segment(), 1);
  EXPECT_EQ(cache_.find({.context = a, .n_context = 2}, upto(20)).n_tokens, 0);
}

TEST_F(PrefixCacheTest, BelongsToTheOwnerThatMadeIt) {
  cache_.keep({.owner = "one"}, upto(10), segment(), 1);
  EXPECT_EQ(cache_.find({.owner = "one"}, upto(20)).n_tokens, 10);
  EXPECT_EQ(cache_.find({.owner = "other"}, upto(20)).n_tokens, 0);
  cache_.keep({.owner = "other"}, upto(20), segment(), 1);
  EXPECT_EQ(cache_.find({.owner = "one"}, upto(20)).n_tokens, 10) << "another's conversation must not replace it";
}

TEST_F(PrefixCacheTest, LeavesWithItsContext) {
  auto a = context();
  cache_.keep(behind(a), upto(10), segment(), 7);
  a.reset();
  EXPECT_EQ(cache_.find(behind(context()), upto(10)).n_tokens, 0);
  EXPECT_EQ(cache_.bytes(), 0U);
}

TEST_F(PrefixCacheTest, TheLeastRecentlyUsedGoesFirst) {
  cache_.keep({}, {1, 2, 3}, segment(), 4);
  cache_.keep({}, {4, 5, 6}, segment(), 4);
  cache_.find({}, std::vector<Token>{1, 2, 3});
  cache_.shrink_to(5);
  EXPECT_EQ(cache_.find({}, std::vector<Token>{1, 2, 3}).n_tokens, 3);
  EXPECT_EQ(cache_.find({}, std::vector<Token>{4, 5, 6}).n_tokens, 0);
  cache_.shrink_to(0);
  EXPECT_EQ(cache_.size(), 0U);
}

TEST_F(PrefixCacheTest, KeepsNoMoreThanSoMany) {
  for (Token t = 0; t < 10; ++t) cache_.keep({}, {t, t, t}, segment(), 4);
  EXPECT_EQ(cache_.size(), 3U);
  EXPECT_EQ(cache_.bytes(), 12U);
  EXPECT_EQ(cache_.find({}, std::vector<Token>{9, 9, 9}).n_tokens, 3);
}

TEST_F(PrefixCacheTest, KeepsNothingThatHasNotBeenUsedForLong) {
  cache_.keep({}, {1, 1, 1}, segment(), 4);
  cache_.keep({}, {2, 2, 2}, segment(), 4);
  clock_.advance(std::chrono::minutes(9));
  cache_.find({}, std::vector<Token>{1, 1, 1});
  clock_.advance(std::chrono::minutes(9));
  cache_.shrink_to(1000);
  EXPECT_EQ(cache_.find({}, std::vector<Token>{1, 1, 1}).n_tokens, 3);
  EXPECT_EQ(cache_.find({}, std::vector<Token>{2, 2, 2}).n_tokens, 0);
}

TEST_F(PrefixCacheTest, WhatIsKeptIsInTheLedger) {
  cache_.keep({}, {1, 1, 1}, segment(), 40);
  cache_.keep({}, {2, 2, 2}, segment(), 40);
  EXPECT_EQ(memory_.used_bytes(), 80U);
  cache_.free(10);
  EXPECT_EQ(memory_.used_bytes(), 40U);
  EXPECT_EQ(cache_.find({}, std::vector<Token>{2, 2, 2}).n_tokens, 3);
}

}  // namespace
}  // namespace celslm
