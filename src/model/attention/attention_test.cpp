#include "model/attention/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/attention/attention_test_support.h"

namespace celslm {
namespace {

using attention_test::largest_difference;
using attention_test::Problem;
using attention_test::Shape;

constexpr KvType kTypes[] = {KvType::kF32, KvType::kF16, KvType::kBf16};

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

TEST(AttentionTest, AgreesWithTheReferenceOnContextAndOwnTokens) {
  for (const KvType type : kTypes) {
    Problem problem({.n_heads = 14, .n_kv_heads = 2, .head_dim = 64, .type = type}, 5, 1);
    const auto context = problem.store(301, 320);
    problem.context(*context, 0, 3).own(17, 32, 0, 3).own(40, 40, 3, 2);
    EXPECT_LT(largest_difference(problem.run(), problem.reference()), 5e-6F);
  }
}

}  // namespace
}  // namespace celslm
