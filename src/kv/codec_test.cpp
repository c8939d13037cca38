// Conformance of every codec in all_codecs(): a new codec is tested by being in the table.
#include "kv/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "hwy/highway.h"
#include "kv/convert.h"
#include "kv/test_support.h"

namespace celslm {
namespace {

using testing_support::kv_values;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const BlockShape kShapes[] = {
    {.n_tokens = 256, .n_kv_heads = 2, .head_dim = 64}, {.n_tokens = 1, .n_kv_heads = 1, .head_dim = 1},
    {.n_tokens = 7, .n_kv_heads = 3, .head_dim = 20},   {.n_tokens = 5, .n_kv_heads = 1, .head_dim = 33},
    {.n_tokens = 3, .n_kv_heads = 2, .head_dim = 80},   {.n_tokens = 2, .n_kv_heads = 5, .head_dim = 31},
    {.n_tokens = 300, .n_kv_heads = 1, .head_dim = 96}, {.n_tokens = 1, .n_kv_heads = 8, .head_dim = 256},
};

// Half of the distance between neighbouring numbers of the codec at `value`, in a group whose largest magnitude is
// `largest`.
float error_bound(const Codec& codec, float value, float largest) {
  if (codec.exact_for() == KvType::kF16) return std::max(std::abs(value) * 0x1p-11F, 0x1p-25F);
  if (codec.exact_for() == KvType::kBf16) return std::abs(value) * 0x1p-8F;
  return largest / 250.0F + 0x1p-25F;
}

class CodecTest : public testing::TestWithParam<const Codec*> {
 protected:
  const Codec& codec() const { return *GetParam(); }
  std::vector<float> round_trip(const BlockShape& shape, const std::vector<float>& values) const {
    const auto bytes = codec().encode(shape, values);
    EXPECT_TRUE(bytes) << bytes.error().message;
    std::vector<float> out(values.size());
    const auto status = codec().decode(shape, bytes.value_or(Bytes{}), out);
    EXPECT_TRUE(status) << status.error().message;
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(All, CodecTest, testing::ValuesIn(all_codecs().begin(), all_codecs().end()),
                         [](const auto& test) { return std::string(test.param->name()); });

TEST_P(CodecTest, IsFoundByNumberAndByName) {
  EXPECT_EQ(find_codec(codec().id()).value(), &codec());
  EXPECT_EQ(find_codec(codec().name()).value(), &codec());
}

TEST_P(CodecTest, KeepsEveryValueWithinItsBoundInEveryShape) {
  for (const BlockShape& shape : kShapes) {
    const auto values = kv_values(shape.values());
    const auto decoded = round_trip(shape, values);
    const float largest = std::abs(std::ranges::max(values, {}, [](float v) { return std::abs(v); }));
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_LE(std::abs(decoded[i] - values[i]), error_bound(codec(), values[i], largest))
          << values[i] << " at " << i << " of " << shape.n_tokens << "x" << shape.n_kv_heads << "x" << shape.head_dim;
    }
  }
}

TEST_P(CodecTest, EncodesToASizeThatItAllows) {
  for (const BlockShape& shape : kShapes) {
    const ByteBounds bounds = codec().encoded_bytes(shape);
    const std::size_t bytes = codec().encode(shape, kv_values(shape.values())).value().size();
    EXPECT_TRUE(bounds.contain(bytes)) << bytes << " of " << bounds.least << " to " << bounds.most;
  }
}

TEST_P(CodecTest, GivesTheSameBytesForTheSameValuesOnEveryInstructionSet) {
  for (const BlockShape& shape : kShapes) {
    const auto values = kv_values(shape.values());
    const Bytes expected = codec().encode(shape, values).value();
    const auto decoded = round_trip(shape, values);
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
      hwy::SetSupportedTargetsForTest(target);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      EXPECT_EQ(codec().encode(shape, values).value(), expected) << hwy::TargetName(target);
      EXPECT_EQ(round_trip(shape, values), decoded) << hwy::TargetName(target);
    }
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
}

TEST_P(CodecTest, StoresADecodedBlockAgainWithoutChange) {
  const BlockShape shape = kShapes[2];
  const auto once = round_trip(shape, kv_values(shape.values()));
  const auto twice = round_trip(shape, once);
  for (std::size_t i = 0; i < once.size(); ++i) {
    // q8's second scale may be a step smaller where no code reached 127; the values stay within that step.
    const float slack = codec().exact_for() ? 0.0F : 8.0F / 250.0F;
    ASSERT_NEAR(once[i], twice[i], slack);
  }
}

TEST_P(CodecTest, RefusesNanInfinityAndWhatItCannotHoldAndSaysWhere) {
  const BlockShape shape{.n_tokens = 4, .n_kv_heads = 2, .head_dim = 40};
  for (const float bad : {kNan, -kNan, kInfinity, -kInfinity, std::numeric_limits<float>::max()}) {
    for (std::size_t at = 0; at < shape.values(); at += 13) {
      auto values = kv_values(shape.values());
      values[at] = bad;
      const auto result = codec().encode(shape, values);
      ASSERT_FALSE(result) << bad << " at " << at;
      EXPECT_EQ(result.error().kind, ErrorKind::kInvalid);
      EXPECT_THAT(result.error().message,
                  testing::HasSubstr(std::format("token {}, head {}, dimension {}", at / 80, at / 40 % 2, at % 40)));
    }
  }
}

TEST_P(CodecTest, RefusesBytesOfTheWrongLength) {
  const BlockShape shape = kShapes[2];
  const Bytes good = codec().encode(shape, kv_values(shape.values())).value();
  std::vector<float> out(shape.values());
  for (const std::size_t length : {std::size_t{0}, std::size_t{1}, good.size() - 1, good.size() + 1}) {
    Bytes bytes = good;
    bytes.resize(length);
    const auto status = codec().decode(shape, bytes, out);
    ASSERT_FALSE(status) << length;
    EXPECT_EQ(status.error().kind, ErrorKind::kInvalid);
  }
}

TEST_P(CodecTest, RefusesShapesWithoutValuesOrWithAbsurdlyMany) {
  std::vector<float> none;
  for (const BlockShape& shape : {BlockShape{.n_tokens = 0, .n_kv_heads = 2, .head_dim = 4},
                                  BlockShape{.n_tokens = -1, .n_kv_heads = -1, .head_dim = 4},
                                  BlockShape{.n_tokens = 1 << 20, .n_kv_heads = 1 << 20, .head_dim = 1 << 20},
                                  BlockShape{.n_tokens = std::numeric_limits<int>::max(), .n_kv_heads = 1, .head_dim = 1}}) {
    EXPECT_FALSE(codec().encode(shape, none));
    EXPECT_FALSE(codec().decode(shape, {}, none));
  }
}

TEST_P(CodecTest, RefusesACountOfValuesThatIsNotTheShapes) {
  const BlockShape shape{.n_tokens = 2, .n_kv_heads = 2, .head_dim = 4};
  std::vector<float> values(15);
  EXPECT_FALSE(codec().encode(shape, values));
  EXPECT_FALSE(codec().decode(shape, Bytes(codec().encoded_bytes(shape).most), values));
}

TEST_P(CodecTest, NeverYieldsNanOrInfinityWhateverTheBytes) {
  const BlockShape shape{.n_tokens = 2, .n_kv_heads = 1, .head_dim = 37};
  std::vector<float> out(shape.values());
  std::uint64_t seed = 7;
  for (int round = 0; round < 2000; ++round) {
    Bytes bytes(codec().encoded_bytes(shape).most);
    for (auto& b : bytes) {
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      b = static_cast<std::byte>(seed >> 56);
      if (round % 2 == 0) b &= std::byte{0x7B};  // mostly acceptable blocks, or nothing would be decoded
    }
    if (!codec().decode(shape, bytes, out)) continue;
    for (const float value : out) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST_P(CodecTest, ReadsBlocksAtAnyAddress) {
  const BlockShape shape = kShapes[0];
  const auto values = kv_values(shape.values());
  const Bytes bytes = codec().encode(shape, values).value();
  const auto expected = round_trip(shape, values);
  for (std::size_t shift = 1; shift < 4; ++shift) {
    Bytes moved(shift);
    moved.insert(moved.end(), bytes.begin(), bytes.end());
    std::vector<float> out(shape.values());
    ASSERT_TRUE(codec().decode(shape, ByteView(moved).subspan(shift), out));
    EXPECT_EQ(out, expected);
  }
}

TEST(CodecTableTest, AnUnknownNameListsTheNamesThereAre) {
  const auto codec = find_codec("mp3");
  ASSERT_FALSE(codec);
  EXPECT_THAT(codec.error().message, testing::HasSubstr("f16, bf16, q8"));
  EXPECT_FALSE(find_codec(static_cast<CodecId>(99)));
}

}  // namespace
}  // namespace celslm
