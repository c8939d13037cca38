#include "model/attention/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "hwy/targets.h"
#include "model/attention/attention_test_support.h"
#include "model/attention/tiling.h"

namespace celslm {
namespace {

using attention_test::largest_difference;
using attention_test::Problem;
using attention_test::Shape;
using attention_test::Store;

constexpr KvType kTypes[] = {KvType::kF32, KvType::kF16, KvType::kBf16, KvType::kQ8};

bool fits(KvType type, int head_dim) {
  return type != KvType::kQ8 || head_dim % 32 == 0;
}

TEST(AttentionReferenceTest, GivesTheOnlyValueWhenOneTokenIsVisible) {
  const float k[] = {1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0};
  const float v[] = {8, 7, 6, 5, 4, 3, 2, 1, 9, 9, 9, 9, 9, 9, 9, 9};
  const float q[] = {1, 1, 1, 1, 1, 1, 1, 1};
  float out[8] = {};
  const AttentionGroup group{
      .kv = {.type = KvType::kF32, .k = k, .v = v, .capacity = 2, .length = 2}, .n_rows = 1, .visible = 1};
  attention_reference(
      {.q = q, .out = out, .n_rows = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 8, .groups = {&group, 1}});
  EXPECT_THAT(out, testing::ElementsAre(8, 7, 6, 5, 4, 3, 2, 1));
}

TEST(AttentionReferenceTest, WeighsValuesBySoftmaxOfTheScores) {
  const float k[16] = {1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0};
  const float v[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
  const float q[8] = {1};
  float out[8] = {};
  const AttentionGroup group{
      .kv = {.type = KvType::kF32, .k = k, .v = v, .capacity = 2, .length = 2}, .n_rows = 1, .visible = 2};
  attention_reference(
      {.q = q, .out = out, .n_rows = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 8, .scale = 0.5F, .groups = {&group, 1}});
  EXPECT_NEAR(out[0], 1.0 / (1.0 + std::exp(-1.0)), 1e-7);
}

TEST(AttentionShareTest, CoversEveryUnitOnceForAnyNumberOfThreads) {
  Problem problem({.n_heads = 6, .n_kv_heads = 2, .head_dim = 8}, 11, 1);
  problem.own(40, 40, 0, 7).own(3, 3, 7, 3);  // row 10 sees nothing
  std::vector<std::size_t> costs;
  for (int nth = 1; nth < 100; ++nth) {
    std::size_t next = 0;
    for (int ith = 0; ith < nth; ++ith) {
      const auto share = attention_detail::share_of(problem.args(), ith, nth, costs);
      EXPECT_EQ(share.first, next);
      EXPECT_GE(share.last, share.first);
      next = share.last;
    }
    EXPECT_EQ(next, 66U);
  }
}

TEST(AttentionShareTest, GivesACausalChunksLaterRowsToMoreThreads) {
  Problem problem({.n_heads = 1, .n_kv_heads = 1, .head_dim = 8}, 100, 1);
  problem.own(100, 100, 0, 100);
  std::vector<std::size_t> costs;
  const auto first = attention_detail::share_of(problem.args(), 0, 2, costs);
  EXPECT_NEAR(static_cast<double>(first.last), 70, 3);  // sqrt(1/2) of the rows are half the keys
}

// Each test runs with the code for each instruction set that this machine has.
class AttentionTest : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { use(GetParam()); }
  void TearDown() override { use(0); }

 private:
  static void use(std::int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

INSTANTIATE_TEST_SUITE_P(Targets, AttentionTest, testing::ValuesIn(attention_detail::usable_targets()),
                         [](const auto& target) { return std::string(hwy::TargetName(target.param)); });

TEST_P(AttentionTest, AgreesWithTheReferenceForEveryHeadSize) {
  for (const KvType type : kTypes) {
    for (const int head_dim : {8, 16, 24, 40, 64, 72, 80, 96, 128, 256}) {
      if (!fits(type, head_dim)) continue;
      Problem problem({.n_heads = 6, .n_kv_heads = 2, .head_dim = head_dim, .type = type}, 5, head_dim);
      problem.context(*problem.store(101, 120), 0, 3).own(17, 32, 0, 3).own(70, 70, 3, 2);
      EXPECT_LT(largest_difference(problem.run(), problem.reference()), 5e-6F) << head_dim;
    }
  }
}

TEST_P(AttentionTest, AgreesWithTheReferenceForAnyNumberOfKeys) {
  for (const KvType type : kTypes) {
    for (const int n_keys : {1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 255, 257, 500, 999, 1000}) {
      Problem problem({.n_heads = 3, .n_kv_heads = 1, .head_dim = 32, .type = type}, 3, n_keys);
      problem.context(*problem.store(n_keys, n_keys + n_keys % 5), 0, 3);
      EXPECT_LT(largest_difference(problem.run(), problem.reference()), 5e-6F) << n_keys;
    }
  }
}

TEST_P(AttentionTest, AgreesWithTheReferenceForAnyNumberOfRowsAndHeads) {
  for (const int gqa : {1, 2, 3, 7}) {
    for (const int n_rows : {1, 2, 5, 8, 9, 13, 33, 70}) {
      Problem problem({.n_heads = 2 * gqa, .n_kv_heads = 2, .head_dim = 16}, n_rows, n_rows);
      problem.context(*problem.store(90, 90), 0, n_rows).own(n_rows + 3, n_rows + 9, 0, n_rows);
      EXPECT_LT(largest_difference(problem.run(3), problem.reference()), 5e-6F) << gqa << ' ' << n_rows;
    }
  }
}

TEST_P(AttentionTest, AgreesWithTheReferenceOnALongPrefill) {
  Problem problem({.n_heads = 4, .n_kv_heads = 2, .head_dim = 64, .type = KvType::kBf16}, 300, 1);
  problem.context(*problem.store(130, 130), 0, 300).own(310, 512, 0, 300);
  EXPECT_LT(largest_difference(problem.run(2), problem.reference()), 5e-6F);
}

// Users of two contexts mixed in one batch, one with none, one whose context is empty, one row that sees nothing.
Problem mixed_batch(KvType type) {
  Problem problem({.n_heads = 14, .n_kv_heads = 2, .head_dim = 64, .type = type}, 12, 5);
  const auto a = problem.store(201, 256);
  const auto b = problem.store(77, 77);
  const auto empty = problem.store(0, 8);
  problem.context(*a, 0, 2).context(*a, 4, 3).context(*b, 2, 2).context(*b, 7, 1).context(*empty, 8, 1);
  problem.own(9, 64, 0, 2)
      .own(1, 64, 2, 1)
      .own(70, 128, 3, 1)
      .own(3, 16, 4, 3)
      .own(1, 1, 7, 1)
      .own(5, 5, 8, 1)
      .own(66, 66, 9, 2);
  return problem;  // row 11 is in no group
}

TEST_P(AttentionTest, AgreesWithTheReferenceWhenSeveralContextsShareABatch) {
  for (const KvType type : kTypes) {
    const Problem problem = mixed_batch(type);
    const std::vector<float> out = problem.run();
    EXPECT_LT(largest_difference(out, problem.reference()), 5e-6F);
  }
}

TEST_P(AttentionTest, GivesZerosToARowThatSeesNothing) {
  const Problem problem = mixed_batch(KvType::kF16);
  const std::vector<float> out = problem.run();
  EXPECT_TRUE(std::all_of(out.end() - problem.row_values(), out.end(), [](float v) { return v == 0.0F; }));
}

TEST_P(AttentionTest, TreatsASegmentSplitInTwoLikeTheWhole) {
  Problem whole({.n_heads = 2, .n_kv_heads = 1, .head_dim = 64, .type = KvType::kF32}, 3, 9);
  const auto store = whole.store(150, 150);
  whole.context(*store, 0, 3);
  Problem parts({.n_heads = 2, .n_kv_heads = 1, .head_dim = 64, .type = KvType::kF32}, 3, 9);
  KvView head = store->view();
  KvView tail = store->view();
  tail.k = static_cast<const float*>(tail.k) + 83 * 64;
  tail.v = static_cast<const float*>(tail.v) + 83 * 64;
  tail.capacity = tail.length = 67;
  head.length = 83;
  parts.group({.kv = head, .n_rows = 3, .visible = 83}).group({.kv = tail, .n_rows = 3, .visible = 67});
  EXPECT_LT(largest_difference(parts.run(), whole.run()), 2e-6F);
}

TEST_P(AttentionTest, AgreesWithTheReferenceWhereKeysHaveLogMasses) {
  for (const KvType type : kTypes) {
    for (const int gqa : {1, 3, 7}) {
      for (const auto& [head_dim, n_keys] : {std::pair(8, 1), {24, 15}, {64, 17}, {64, 129}, {80, 130}, {128, 300}}) {
        if (!fits(type, head_dim)) continue;
        Problem problem({.n_heads = 2 * gqa, .n_kv_heads = 2, .head_dim = head_dim, .type = type}, 13, n_keys);
        problem.context(*problem.weighted_store(n_keys, n_keys + n_keys % 5), 0, 9).own(16, 32, 0, 13);
        EXPECT_LT(largest_difference(problem.run(3), problem.reference()), 5e-6F) << gqa << ' ' << head_dim << ' ' << n_keys;
      }
    }
  }
}

TEST_P(AttentionTest, GivesTheSameBitsForLogMassesOfZeroAsForNone) {
  for (const KvType type : kTypes) {
    const auto run = [&](bool with_masses) {
      Problem problem({.n_heads = 6, .n_kv_heads = 2, .head_dim = 64, .type = type}, 11, 7);
      const auto context =
          with_masses ? problem.store_with_log_mass(203, 256, [] { return 0.0F; }) : problem.store(203, 256);
      problem.context(*context, 0, 11).own(14, 16, 0, 11);
      return problem.run(2);
    };
    EXPECT_EQ(run(true), run(false)) << to_string(type);
  }
}

TEST_P(AttentionTest, WeighsAKeyOfLogMassLogTwoAsTwoEqualKeys) {
  Problem twice({.n_heads = 3, .n_kv_heads = 1, .head_dim = 64, .type = KvType::kF32}, 5, 9);
  const auto once_each = twice.store(140, 140);
  twice.context(*once_each, 0, 5).context(*once_each, 0, 5);
  Problem heavy({.n_heads = 3, .n_kv_heads = 1, .head_dim = 64, .type = KvType::kF32}, 5, 9);
  const auto doubled = heavy.store_with_log_mass(140, 140, [] { return std::log(2.0F); });
  // A second segment that both see, so that the factor does not cancel.
  twice.context(*twice.store(100, 100), 0, 5);
  heavy.context(*doubled, 0, 5).context(*heavy.store(100, 100), 0, 5);
  EXPECT_LT(largest_difference(heavy.run(), twice.run()), 2e-6F);
}

TEST_P(AttentionTest, GivesARowTheSameBitsAloneAsInABatchBehindLogMasses) {
  Problem batch({.n_heads = 14, .n_kv_heads = 2, .head_dim = 64}, 21, 3);
  batch.context(*batch.weighted_store(203, 256), 0, 17).context(*batch.store(99, 99), 17, 4).own(40, 64, 0, 21);
  const std::vector<float> together = batch.run(2);
  for (int row = 0; row < 21; ++row) EXPECT_EQ(batch.run_row(row), attention_test::row_of(batch, together, row)) << row;
}

TEST_P(AttentionTest, SurvivesExtremeLogits) {
  for (const KvType type : kTypes) {
    Problem problem({.n_heads = 4, .n_kv_heads = 2, .head_dim = 64, .type = type}, 9, 3, 1e4F);
    problem.context(*problem.store(300, 300), 0, 9).own(20, 20, 0, 9);
    // Scores of about 3e4 carry a rounding error of about 1e-2, so weights may differ by that fraction.
    EXPECT_LT(largest_difference(problem.run(), problem.reference()), 0.05F);
  }
}

TEST_P(AttentionTest, WeighsAllKeysAlikeWhenEveryQueryIsZero) {
  Problem problem({.n_heads = 2, .n_kv_heads = 2, .head_dim = 16}, 2, 3, 0.0F);
  problem.context(*problem.store(100, 128), 0, 2);
  EXPECT_LT(largest_difference(problem.run(), problem.reference()), 1e-6F);
}

TEST_P(AttentionTest, GivesTheSameBitsOnAnyNumberOfThreads) {
  for (const KvType type : kTypes) {
    const Problem problem = mixed_batch(type);
    const std::vector<float> alone = problem.run(1);
    for (const int nth : {2, 3, 5, 14, 40, 200}) EXPECT_EQ(problem.run(nth), alone) << nth;
  }
}

// Each row of a batch of 33 users, alone: batched answers equal single-user answers, bit by bit.
TEST_P(AttentionTest, GivesARowTheSameBitsAloneAsInABatch) {
  for (const KvType type : kTypes) {
    for (const int head_dim : {24, 64}) {
      if (!fits(type, head_dim)) continue;
      const Shape shape{.n_heads = 14, .n_kv_heads = 2, .head_dim = head_dim, .type = type};
      constexpr int kRows = 33;
      Problem batch(shape, kRows, 21);
      batch.context(*batch.store(203, 256), 0, kRows);
      for (int row = 0; row < kRows; ++row) batch.own(1 + row * 3, 128, row, 1);
      const std::vector<float> together = batch.run(2);
      for (int row = 0; row < kRows; ++row)
        EXPECT_EQ(batch.run_row(row), attention_test::row_of(batch, together, row)) << row;
    }
  }
}

// A prefill in one chunk, and token by token.
TEST_P(AttentionTest, GivesARowTheSameBitsInAChunkAsAlone) {
  for (const KvType type : kTypes) {
    Problem chunk({.n_heads = 3, .n_kv_heads = 1, .head_dim = 64, .type = type}, 150, 4);
    chunk.context(*chunk.store(70, 70), 0, 150).own(160, 160, 0, 150);
    const std::vector<float> together = chunk.run();
    for (const int row : {0, 1, 56, 57, 58, 116, 117, 118, 148, 149}) {
      EXPECT_EQ(chunk.run_row(row), attention_test::row_of(chunk, together, row)) << row;
    }
  }
}

// Chunks behind contexts that begin inside their windows, end before them, or are there not at all.
Problem windowed_batch(KvType type, int window, int gqa = 3) {
  Problem problem({.n_heads = 2 * gqa, .n_kv_heads = 2, .head_dim = 64, .type = type}, 61, static_cast<unsigned>(window));
  return problem.windowed(0, 0, 0, 40, window)
      .windowed(300, 0, 40, 2, window)
      .windowed(300, 25, 42, 17, window)
      .windowed(10, 290, 59, 1, window)
      .windowed(5, 2, 60, 1, window);
}

TEST_P(AttentionTest, AgreesWithTheReferenceUnderASlidingWindow) {
  for (const KvType type : kTypes) {
    for (const int window : {1, 2, 15, 16, 17, 100, 127, 128, 129, 200, 1000}) {
      const Problem problem = windowed_batch(type, window);
      EXPECT_LT(largest_difference(problem.run(3), problem.reference()), 5e-6F) << to_string(type) << ' ' << window;
    }
  }
}

TEST_P(AttentionTest, GivesARowTheSameBitsAloneAsInABatchUnderASlidingWindow) {
  for (const int window : {1, 20, 130}) {
    const Problem batch = windowed_batch(KvType::kF16, window, 7);
    const std::vector<float> together = batch.run(2);
    for (int row = 0; row < 61; ++row)
      EXPECT_EQ(batch.run_row(row), attention_test::row_of(batch, together, row)) << window << ' ' << row;
  }
}

// Users of one context who stand at its beginning and at its end: what lies between their windows is read by nobody.
TEST_P(AttentionTest, ReadsNothingBetweenWindowsThatAreFarApart) {
  Problem problem({.n_heads = 2, .n_kv_heads = 1, .head_dim = 64, .type = KvType::kF32}, 2, 3);
  std::vector<float> values(std::size_t{1000} * 64);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool between = i >= std::size_t{128} * 64 && i < std::size_t{896} * 64;
    values[i] = between ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(i % 97) / 97.0F;
  }
  const KvView kv{.type = KvType::kF32, .k = values.data(), .v = values.data(), .capacity = 1000, .length = 1000};
  problem.group({.kv = kv, .n_rows = 1, .visible = 100, .hidden = 20, .sliding = 1});
  problem.group({.kv = kv, .first_row = 1, .n_rows = 1, .visible = 1000, .hidden = 900, .sliding = 1});
  EXPECT_LT(largest_difference(problem.run(), problem.reference()), 5e-6F);
}

TEST_P(AttentionTest, AgreesWithTheReferenceWhereHeadsHaveSinks) {
  for (const KvType type : kTypes) {
    for (const int window : {1, 30, 500}) {
      Problem problem = windowed_batch(type, window);
      problem.sinks();
      EXPECT_LT(largest_difference(problem.run(2), problem.reference()), 5e-6F) << to_string(type) << ' ' << window;
    }
  }
}

TEST_P(AttentionTest, AllocatesNothingOnceItHasSeenASize) {
  const Problem problem = mixed_batch(KvType::kF16);
  std::vector<float> out(problem.values());
  AttentionScratch scratch;
  attention(problem.args(out.data()), 0, 1, scratch);
  const auto sizes = [&] {
    return std::tuple(scratch.values.data(), scratch.costs.data(), scratch.vectors.data(), scratch.values.capacity(),
                      scratch.costs.capacity(), scratch.vectors.capacity());
  };
  const auto before = sizes();
  attention(problem.args(out.data()), 0, 1, scratch);
  EXPECT_EQ(sizes(), before);
}

}  // namespace
}  // namespace celslm
