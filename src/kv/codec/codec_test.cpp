// Conformance of every codec in all_codecs(): a new codec is tested by being in the table.
#include "kv/codec/codec.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <map>

#include "hwy/highway.h"
#include "kv/pack/test_support.h"
#include "model/numeric/convert.h"

namespace celslm {
namespace {

using testing_support::kv_values;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const BlockShape kShapes[] = {
    {.n_tokens = 256, .n_kv_heads = 2, .head_dim = 64},
    {.n_tokens = 1, .n_kv_heads = 1, .head_dim = 1},
    {.n_tokens = 7, .n_kv_heads = 3, .head_dim = 20},
    {.n_tokens = 5, .n_kv_heads = 1, .head_dim = 33},
    {.n_tokens = 3, .n_kv_heads = 2, .head_dim = 80},
    {.n_tokens = 2, .n_kv_heads = 5, .head_dim = 31},
    {.n_tokens = 300, .n_kv_heads = 1, .head_dim = 96},
    {.n_tokens = 1, .n_kv_heads = 8, .head_dim = 256},
    {.n_tokens = 5, .n_kv_heads = 1, .head_dim = 256},
    {.n_tokens = 600, .n_kv_heads = 2, .head_dim = 33},
    {.kind = BlockKind::kValue, .n_tokens = 200, .n_kv_heads = 2, .head_dim = 32},
};

// The most that an approximate codec may be wrong by, as a share of the values, both in the root mean square.
double error_share(const Codec& codec) {
  static const std::map<std::string_view, double> shares = {{"q8", 0.01}, {"t4", 0.1}, {"t3", 0.2}, {"t2", 0.4}};
  const auto found = shares.find(codec.name());
  return found == shares.end() ? 0.002 : found->second;
}

double root_mean_square(std::span<const float> values) {
  double sum = 0.0;
  for (const float v : values) sum += double{v} * v;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

std::vector<float> differences(std::span<const float> a, std::span<const float> b) {
  std::vector<float> out(a.size());
  std::ranges::transform(a, b, out.begin(), std::minus());
  return out;
}

// Whether the codec answers for every single value; the others answer for all of a block.
bool bounds_each(const Codec& codec) {
  return codec.exact_for() || codec.id() == CodecId::kQ8;
}

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

TEST_P(CodecTest, KeepsABlocksErrorSmallBesideItsValuesInEveryShape) {
  for (const BlockShape& shape : kShapes) {
    const auto values = kv_values(shape.values());
    const double error = root_mean_square(differences(round_trip(shape, values), values));
    EXPECT_LE(error, error_share(codec()) * root_mean_square(values))
        << shape.n_tokens << "x" << shape.n_kv_heads << "x" << shape.head_dim;
  }
}

TEST_P(CodecTest, KeepsEveryValueWithinItsBoundInEveryShape) {
  if (!bounds_each(codec())) GTEST_SKIP() << "answers for blocks";
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

TEST_P(CodecTest, StoresADecodedBlockAgainWithoutMoreThanItsError) {
  const BlockShape shape = kShapes[2];
  const auto once = round_trip(shape, kv_values(shape.values()));
  const auto twice = round_trip(shape, once);
  if (codec().exact_for()) {
    EXPECT_EQ(once, twice);
  }
  EXPECT_LE(root_mean_square(differences(once, twice)), error_share(codec()) * root_mean_square(once));
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
                  testing::HasSubstr(fmt::format("token {}, head {}, dimension {}", at / 80, at / 40 % 2, at % 40)));
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
  const BlockShape shape{.n_tokens = 90, .n_kv_heads = 1, .head_dim = 37};
  std::vector<float> out(shape.values());
  const Bytes good = codec().encode(shape, kv_values(shape.values())).value();
  std::uint64_t seed = 7;
  for (int round = 0; round < 2000; ++round) {
    Bytes bytes = good;
    for (int change = 0; change < 1 + round % 8; ++change) {
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      bytes[(seed >> 8) % (round % 2 == 0 ? bytes.size() : bytes.size() / 4)] = static_cast<std::byte>(seed >> 56);
    }
    if (!codec().decode(shape, bytes, out)) continue;
    for (const float value : out) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST_P(CodecTest, HoldsConstantBlocksAndZeros) {
  const BlockShape shape{.n_tokens = 80, .n_kv_heads = 2, .head_dim = 32};
  for (const float value : {0.0F, -0.0F, 1.0F, -300.0F, 0x1p-24F, 60000.0F}) {
    const std::vector<float> values(shape.values(), value);
    const auto decoded = round_trip(shape, values);
    for (const float v : decoded) ASSERT_NEAR(v, value, std::abs(value) / 128.0F + 0x1p-25F);
  }
}

TEST_P(CodecTest, IsNotThrownByOneValueThatIsUnlikeAllOthers) {
  const BlockShape shape{.n_tokens = 300, .n_kv_heads = 1, .head_dim = 64};
  auto values = kv_values(shape.values());
  values[10000] = 60000.0F;
  EXPECT_NEAR(round_trip(shape, values)[10000], 60000.0F, 1000.0F);
}

TEST_P(CodecTest, RefusesEveryBlockThatEndsEarly) {
  const BlockShape shape{.n_tokens = 40, .n_kv_heads = 1, .head_dim = 16};
  const Bytes good = codec().encode(shape, kv_values(shape.values())).value();
  std::vector<float> out(shape.values());
  for (std::size_t length = 0; length < good.size(); ++length) {
    ASSERT_FALSE(codec().decode(shape, ByteView(good).first(length), out)) << length;
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

TEST_P(CodecTest, RefusesWeightsThatAreNotOneForEachChannelFiniteAndPositive) {
  const BlockShape shape{.n_tokens = 4, .n_kv_heads = 2, .head_dim = 8};
  const auto values = kv_values(shape.values());
  for (const std::size_t n : {1, 15, 17}) EXPECT_FALSE(codec().encode(shape, values, std::vector<float>(n, 1.0F)));
  for (const float bad : {-1.0F, kNan, kInfinity}) {
    std::vector<float> weights(16, 1.0F);
    weights[7] = bad;
    const auto result = codec().encode(shape, values, weights);
    ASSERT_FALSE(result) << bad;
    EXPECT_THAT(result.error().message, testing::HasSubstr("channel 7"));
  }
}

// Channels that matter 1, 2, 4, ... times as much.
std::vector<float> doubling_weights(const BlockShape& shape) {
  std::vector<float> out;
  for (int c = 0; c < shape.n_kv_heads * shape.head_dim; ++c) out.push_back(std::ldexp(1.0F, c % 6));
  return out;
}

// Root mean square of the errors of each channel.
std::vector<double> channel_errors(const Codec& codec, const BlockShape& shape, const std::vector<float>& values,
                                   ChannelWeights weights) {
  std::vector<float> decoded(values.size());
  EXPECT_TRUE(codec.decode(shape, codec.encode(shape, values, weights).value(), decoded));
  const auto channels = static_cast<std::size_t>(shape.n_kv_heads * shape.head_dim);
  std::vector<double> out(channels);
  for (std::size_t i = 0; i < values.size(); ++i) out[i % channels] += std::pow(double{decoded[i]} - values[i], 2);
  for (double& error : out) error = std::sqrt(error / shape.n_tokens);
  return out;
}

class TransformCodecTest : public testing::TestWithParam<CodecId> {
 protected:
  const Codec& codec() const { return **find_codec(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(All, TransformCodecTest, testing::Values(CodecId::kT4, CodecId::kT3, CodecId::kT2));

TEST_P(TransformCodecTest, ErrsLessWhereErrorsMatterMore) {
  const BlockShape shape{.n_tokens = 600, .n_kv_heads = 2, .head_dim = 36};
  const auto values = kv_values(shape.values());
  const auto weights = doubling_weights(shape);
  const auto errors = channel_errors(codec(), shape, values, weights);
  std::array<double, 6> by_weight{};
  for (std::size_t c = 0; c < errors.size(); ++c) by_weight[c % 6] += errors[c] / 12.0;
  for (std::size_t i = 1; i < by_weight.size(); ++i) EXPECT_LT(by_weight[i], by_weight[i - 1]) << i;
}

TEST_P(TransformCodecTest, SparesBytesAtTheSameWeightedError) {
  const BlockShape shape{.n_tokens = 600, .n_kv_heads = 2, .head_dim = 36};
  const auto values = kv_values(shape.values());
  const auto weights = doubling_weights(shape);
  const auto weighted = [&](ChannelWeights used) {
    const auto errors = channel_errors(codec(), shape, values, used);
    double sum = 0.0;
    for (std::size_t c = 0; c < errors.size(); ++c) sum += std::pow(errors[c] * weights[c], 2);
    return std::sqrt(sum);
  };
  EXPECT_LT(weighted(weights), 1.3 * weighted({}));
  const std::size_t bytes = codec().encode(shape, values, weights)->size();
  EXPECT_LT(static_cast<double>(bytes), 0.9 * static_cast<double>(codec().encode(shape, values)->size()));
}

TEST_P(TransformCodecTest, WeightsOfZeroAndExtremeWeightsAreHarmless) {
  const BlockShape shape{.n_tokens = 40, .n_kv_heads = 1, .head_dim = 4};
  const auto values = kv_values(shape.values());
  const std::vector<float> zeros(4, 0.0F);
  EXPECT_EQ(codec().encode(shape, values, zeros).value(), codec().encode(shape, values).value());
  const std::vector<float> extreme = {0.0F, 1e-40F, 1.0F, std::numeric_limits<float>::max()};
  for (const double error : channel_errors(codec(), shape, values, extreme)) EXPECT_LT(error, 64.0);
}

TEST_P(TransformCodecTest, GivesTheSameBytesForTheSameWeightsOnEveryInstructionSet) {
  const BlockShape shape{.n_tokens = 600, .n_kv_heads = 2, .head_dim = 33};
  const auto values = kv_values(shape.values());
  const auto weights = doubling_weights(shape);
  const Bytes expected = codec().encode(shape, values, weights).value();
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    EXPECT_EQ(codec().encode(shape, values, weights).value(), expected) << hwy::TargetName(target);
    EXPECT_EQ(channel_errors(codec(), shape, values, weights), channel_errors(codec(), shape, values, weights));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST_P(TransformCodecTest, RefusesAGainOfZeroAndUnknownKindsOfBody) {
  const BlockShape shape{.n_tokens = 40, .n_kv_heads = 1, .head_dim = 16};
  const Bytes good = codec().encode(shape, kv_values(shape.values()), doubling_weights(shape)).value();
  const std::size_t kind_at =
      find_codec(CodecId::kQ8).value()->encoded_bytes({.n_tokens = 4, .n_kv_heads = 1, .head_dim = 16}).most;
  std::vector<float> out(shape.values());
  ASSERT_EQ(good[kind_at], std::byte{2});
  ASSERT_TRUE(codec().decode(shape, good, out));
  Bytes zero = good;
  zero[kind_at + 5 + 3] = std::byte{0};
  EXPECT_THAT(codec().decode(shape, zero, out).error().message, testing::HasSubstr("gain is 0"));
  Bytes unknown = good;
  unknown[kind_at] = std::byte{4};
  EXPECT_THAT(codec().decode(shape, unknown, out).error().message, testing::HasSubstr("kind of body is 4"));
}

// Lead tokens are a q8 block: the first bytes are its scales.
TEST_P(TransformCodecTest, RefusesALeadThatEncodersRefuse) {
  const BlockShape shape{.n_tokens = 40, .n_kv_heads = 1, .head_dim = 32};
  const Bytes good = codec().encode(shape, kv_values(shape.values())).value();
  std::vector<float> out(shape.values());
  for (const std::uint16_t scale : {0x7BFF, 0x6008, 0x7C00, 0x7E00, 0xBC00}) {  // 65,504; 516; infinity; NaN; -1
    Bytes bytes = good;
    std::memcpy(bytes.data(), &scale, sizeof scale);
    EXPECT_FALSE(codec().decode(shape, bytes, out)) << scale;
  }
}

TEST_P(TransformCodecTest, RefusesAUnitThatMakesValuesF16CannotHold) {
  const BlockShape shape{.n_tokens = 40, .n_kv_heads = 1, .head_dim = 32};
  Bytes bytes = codec().encode(shape, kv_values(shape.values())).value();
  const std::size_t unit_at =
      1 + find_codec(CodecId::kQ8).value()->encoded_bytes({.n_tokens = 4, .n_kv_heads = 1, .head_dim = 32}).most;
  std::vector<float> out(shape.values());
  ASSERT_TRUE(codec().decode(shape, bytes, out));
  for (const float unit : {1e6F, 0x1p60F, kInfinity, kNan, -1.0F}) {
    std::memcpy(bytes.data() + unit_at, &unit, sizeof unit);
    EXPECT_FALSE(codec().decode(shape, bytes, out)) << unit;
  }
}

// A cloud that signs nonsense must not be able to make every answer of an edge nonsense.
TEST(Q8CodecTest, RefusesAScaleThatEncodersRefuse) {
  const BlockShape shape{.n_tokens = 2, .n_kv_heads = 1, .head_dim = 64};
  const Codec& codec = **find_codec(CodecId::kQ8);
  const Bytes good = codec.encode(shape, kv_values(shape.values())).value();
  std::vector<float> out(shape.values());
  for (const std::uint16_t scale : {0x7BFF, 0x6008, 0x7C00, 0x7E00, 0xBC00}) {
    Bytes bytes = good;
    std::memcpy(bytes.data() + 2, &scale, sizeof scale);
    EXPECT_THAT(codec.decode(shape, bytes, out).error().message, testing::HasSubstr("a scale beyond 0 to 515.5")) << scale;
  }
}

TEST(Q8CodecTest, EncodesWhatItDecodesToTheSameBytes) {
  const BlockShape shape{.n_tokens = 30, .n_kv_heads = 2, .head_dim = 40};
  const Codec& codec = **find_codec(CodecId::kQ8);
  const Bytes bytes = codec.encode(shape, kv_values(shape.values())).value();
  std::vector<float> values(shape.values());
  ASSERT_TRUE(codec.decode(shape, bytes, values));
  EXPECT_EQ(codec.encode(shape, values).value(), bytes);
}

// KV whose channels have their own size and sign, as in models.
TEST(LosslessCodecTest, IsShorterWhereChannelsDiffer) {
  const BlockShape shape{.n_tokens = 256, .n_kv_heads = 2, .head_dim = 64};
  auto values = kv_values(shape.values());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::ldexp(values[i], static_cast<int>(i % 128 / 16) - 4);
  const std::size_t bytes = find_codec(CodecId::kF16z).value()->encode(shape, values)->size();
  EXPECT_LT(static_cast<double>(bytes),
            0.95 * static_cast<double>(find_codec(CodecId::kF16).value()->encode(shape, values)->size()));
}

TEST(LosslessCodecTest, KeepsEveryFiniteNumberOfF16) {
  const BlockShape shape{.n_tokens = 1 << 11, .n_kv_heads = 1, .head_dim = 32};
  std::vector<float> values;
  for (std::uint32_t bits = 0; bits < 1U << 16; ++bits) {
    const std::array raw = {static_cast<std::byte>(bits), static_cast<std::byte>(bits >> 8)};
    float value = 0.0F;
    values.push_back(f32_from_f16(raw.data(), &value, 1) ? value : 0.0F);
  }
  const Codec& codec = **find_codec(CodecId::kF16z);
  std::vector<float> decoded(values.size());
  ASSERT_TRUE(codec.decode(shape, codec.encode(shape, values).value(), decoded));
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(decoded[i]), std::bit_cast<std::uint32_t>(values[i]));
}

TEST(LosslessCodecTest, RefusesAClassThatNoChannelHas) {
  const BlockShape shape{.n_tokens = 8, .n_kv_heads = 1, .head_dim = 8};
  const Codec& codec = **find_codec(CodecId::kF16z);
  Bytes bytes = codec.encode(shape, kv_values(shape.values())).value();
  std::vector<float> out(shape.values());
  bytes[3] = std::byte{62};
  EXPECT_THAT(codec.decode(shape, bytes, out).error().message, testing::HasSubstr("class 62"));
}

TEST(CodecTableTest, AnUnknownNameListsTheNamesThereAre) {
  const auto codec = find_codec("mp3");
  ASSERT_FALSE(codec);
  EXPECT_THAT(codec.error().message, testing::HasSubstr("f16, f16z, bf16, q8"));
  EXPECT_FALSE(find_codec(static_cast<CodecId>(99)));
}

}  // namespace
}  // namespace celslm
