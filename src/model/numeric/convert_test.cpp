// The codecs' arithmetic against plain references, on every instruction set this CPU has.
#include "model/numeric/convert.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "hwy/highway.h"
#include "kv/pack/test_support.h"
#include "model/numeric/q8_0.h"

namespace celslm {
namespace {

class ConvertTest : public testing::TestWithParam<std::int64_t> {
 protected:
  ConvertTest() {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  ~ConvertTest() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

INSTANTIATE_TEST_SUITE_P(Targets, ConvertTest, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& test) { return std::string(hwy::TargetName(test.param)); });

using Encode = bool (*)(const float*, std::byte*, std::size_t);

std::vector<std::uint16_t> encoded(Encode encode, const std::vector<float>& in) {
  std::vector<std::uint16_t> out(in.size());
  EXPECT_TRUE(encode(in.data(), reinterpret_cast<std::byte*>(out.data()), in.size()));
  return out;
}

// Every finite f16 number and, between each two neighbours, the middle and the numbers next to it: all the ways to round.
std::vector<float> f16_rounding_cases() {
  std::vector<float> out;
  for (std::uint32_t bits = 0; bits < 0x7C00; ++bits) {
    const float here = ggml_fp16_to_fp32(static_cast<ggml_fp16_t>(bits));
    const float next = bits == 0x7BFF ? kF16Limit + 16.0F : ggml_fp16_to_fp32(static_cast<ggml_fp16_t>(bits + 1));
    const float middle = here + (next - here) / 2.0F;
    for (const float value : {here, std::nextafter(middle, 0.0F), middle, std::nextafter(middle, next)}) {
      if (value < kF16Limit) out.insert(out.end(), {value, -value});
    }
  }
  return out;
}

TEST_P(ConvertTest, F16RoundsAsGgmlDoesInEveryCase) {
  const auto cases = f16_rounding_cases();
  std::vector<ggml_fp16_t> expected(cases.size());
  ggml_fp32_to_fp16_row(cases.data(), expected.data(), static_cast<std::int64_t>(cases.size()));
  EXPECT_EQ(encoded(f16_from_f32, cases), expected);
}

TEST_P(ConvertTest, F16DecodesEveryFiniteNumber) {
  std::vector<std::uint16_t> all;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7C00) != 0x7C00) all.push_back(static_cast<std::uint16_t>(bits));
  }
  std::vector<float> out(all.size());
  ASSERT_TRUE(f32_from_f16(reinterpret_cast<const std::byte*>(all.data()), out.data(), all.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(out[i]), std::bit_cast<std::uint32_t>(ggml_fp16_to_fp32(all[i]))) << all[i];
  }
}

// The definition, in double, which holds every quotient here: the nearest multiple of what the last of 11 bits is worth.
std::uint16_t f16_reference(float value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::abs(double{value});
  if (std::isnan(value)) return sign | 0x7E00;
  if (magnitude >= kF16Limit) return sign | 0x7C00;
  const int exponent = std::max(magnitude == 0.0 ? -14 : std::ilogb(magnitude), -14);
  const auto steps =
      static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));  // carries run into the exponent
  return static_cast<std::uint16_t>(sign + ((exponent + 14) << 10) + steps);
}

TEST_P(ConvertTest, F16IsWhatTheDefinitionSays) {
  const auto cases = f16_rounding_cases();
  std::vector<std::uint16_t> expected;
  for (const float value : cases) expected.push_back(f16_reference(value));
  EXPECT_EQ(encoded(f16_from_f32, cases), expected);
}

// In long arrays and in what is left over behind them.
TEST_P(ConvertTest, ReportsWhatIsOutsideTheDomain) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> large = {kF16Limit, 1e9F, std::numeric_limits<float>::max(), kInfinity};
  for (const std::size_t n : {1U, 3U, 4U, 16U, 37U}) {
    std::vector<float> in;
    for (std::size_t i = 0; i < n; ++i) in.push_back(i % 2 == 0 ? large[i / 2 % 4] : -large[i / 2 % 4]);
    std::vector<std::uint16_t> out(n);
    EXPECT_FALSE(f16_from_f32(in.data(), reinterpret_cast<std::byte*>(out.data()), n));
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(out[i], i % 2 == 0 ? 0x7C00 : 0xFC00);
  }
  const std::vector<float> nans = {std::bit_cast<float>(0x7F800001U), std::bit_cast<float>(0xFFFFFFFFU), kInfinity};
  std::uint16_t out[3] = {};
  EXPECT_FALSE(bf16_from_f32(nans.data(), reinterpret_cast<std::byte*>(out), 3));
  EXPECT_EQ(std::vector<int>(out, out + 3), (std::vector<int>{0x7FC0, 0xFFFF, 0x7F80}));
  EXPECT_FALSE(f16_from_f32(nans.data(), reinterpret_cast<std::byte*>(out), 3));
  float wide[3] = {};
  EXPECT_FALSE(f32_from_f16(reinterpret_cast<const std::byte*>(out), wide, 3));
}

// Rounding and widening at once is the one after the other, in place as well.
TEST_P(ConvertTest, ThroughIsThereAndBack) {
  auto cases = f16_rounding_cases();
  for (const bool half : {true, false}) {
    std::vector<std::byte> rounded(cases.size() * 2);
    std::vector<float> expected(cases.size());
    half ? f16_from_f32(cases.data(), rounded.data(), cases.size())
         : bf16_from_f32(cases.data(), rounded.data(), cases.size());
    half ? f32_from_f16(rounded.data(), expected.data(), cases.size())
         : f32_from_bf16(rounded.data(), expected.data(), cases.size());
    std::vector<float> got = cases;
    half ? f32_through_f16(got.data(), got.data(), got.size()) : f32_through_bf16(got.data(), got.data(), got.size());
    EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << half;
  }
}

// The definition: the scale makes the largest value 127; codes are the nearest whole numbers, ties to even.
TEST_P(ConvertTest, Q8_0IsWhatTheDefinitionSays) {
  auto values = testing_support::kv_values(64 * kQ8Values);
  std::fill_n(values.begin(), kQ8Values, 0.0F);
  for (std::size_t i = 0; i < kQ8Values; ++i) values[kQ8Values + i] = static_cast<float>(i) - 16.5F;
  values[kQ8Values] = 127.0F;  // the scale is 1: all others are ties
  std::vector<std::byte> out(64 * kQ8Bytes);
  q8_0_from_f32(values.data(), out.data(), values.size());
  for (std::size_t block = 0; block < 64; ++block) {
    float largest = 0.0F;
    for (std::size_t i = 0; i < kQ8Values; ++i) largest = std::max(largest, std::abs(values[block * kQ8Values + i]));
    const float scale = largest / 127.0F;
    const float inverse = scale > 0.0F ? 1.0F / scale : 0.0F;
    const std::byte* at = out.data() + block * kQ8Bytes;
    std::uint16_t stored = 0;
    std::memcpy(&stored, at, 2);
    EXPECT_EQ(stored, f16_reference(scale));
    for (std::size_t i = 0; i < kQ8Values; ++i) {
      EXPECT_EQ(static_cast<std::int8_t>(at[2 + i]), std::nearbyint(values[block * kQ8Values + i] * inverse)) << block;
    }
  }
}

// The definition: of the two neighbours, the nearer; in the middle, the even one.
std::uint16_t bf16_reference(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t below = bits & 0xFFFF0000;
  const std::uint32_t rest = bits & 0xFFFF;
  const bool up = rest > 0x8000 || (rest == 0x8000 && (below & 0x10000) != 0);
  return static_cast<std::uint16_t>((below >> 16) + (up ? 1 : 0));
}

TEST_P(ConvertTest, Bf16RoundsToNearestEvenAndKeepsSubnormals) {
  std::vector<float> cases;
  for (std::uint32_t high = 0; high < 0x7F80; ++high) {
    for (const std::uint32_t low : {0x0000U, 0x0001U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      const auto value = std::bit_cast<float>(high << 16 | low);
      if (value < kBf16Limit) cases.insert(cases.end(), {value, -value});
    }
  }
  std::vector<std::uint16_t> expected;
  for (const float value : cases) expected.push_back(bf16_reference(value));
  EXPECT_EQ(encoded(bf16_from_f32, cases), expected);
}

TEST_P(ConvertTest, Bf16AgreesWithGgmlOnNormalNumbers) {
  const auto values = testing_support::kv_values(10007);
  std::vector<ggml_bf16_t> expected(values.size());
  ggml_fp32_to_bf16_row(values.data(), expected.data(), static_cast<std::int64_t>(values.size()));
  const auto ours = encoded(bf16_from_f32, values);
  EXPECT_EQ(std::memcmp(ours.data(), expected.data(), ours.size() * 2), 0);
}

TEST_P(ConvertTest, LimitsLieExactlyBetweenTheLastNumberAndInfinity) {
  std::byte out[2];
  for (const auto& [encode, limit] : {std::pair<Encode, float>(f16_from_f32, kF16Limit), {bf16_from_f32, kBf16Limit}}) {
    const float below = std::nextafter(limit, 0.0F);
    EXPECT_TRUE(encode(&below, out, 1));
    EXPECT_FALSE(encode(&limit, out, 1));
  }
}

TEST_P(ConvertTest, Q8ScaleIsTheSmallestThatCoversTheGroupAndNoCodeIsClipped) {
  for (int exponent = -149; exponent < 16; ++exponent) {
    for (const float mantissa : {1.0F, 1.2345F, 1.5F, 1.984375F, 1.9999F}) {
      const float largest = std::min(std::ldexp(mantissa, exponent), kQ8Largest);
      const float row[3] = {largest, -largest / 3.0F, 0.0F};
      std::uint16_t scale = 0;
      std::int8_t codes[3] = {};
      ASSERT_TRUE(q8_from_f32(row, reinterpret_cast<std::byte*>(&scale), reinterpret_cast<std::byte*>(codes), 1, 3));
      const float step = ggml_fp16_to_fp32(scale);
      EXPECT_GE(127.0F * step, largest);
      EXPECT_LT(127.0F * ggml_fp16_to_fp32(static_cast<ggml_fp16_t>(scale - 1)), largest);  // never 0: largest > 0
      for (int i = 0; i < 3; ++i) {
        EXPECT_LE(std::abs(static_cast<float>(codes[i]) * step - row[i]), step * 0.500001F) << largest;
      }
      float decoded[3] = {};
      EXPECT_TRUE(
          f32_from_q8(reinterpret_cast<const std::byte*>(&scale), reinterpret_cast<const std::byte*>(codes), decoded, 1, 3))
          << largest;
      EXPECT_LT(std::abs(decoded[0]), kF16Limit);
    }
  }
}

TEST_P(ConvertTest, Q8RoundsTiesToEvenCodes) {
  const float row[5] = {127.0F, 0.5F, 1.5F, 2.5F, -0.5F};  // the scale is 1
  std::uint16_t scale = 0;
  std::int8_t codes[5] = {};
  ASSERT_TRUE(q8_from_f32(row, reinterpret_cast<std::byte*>(&scale), reinterpret_cast<std::byte*>(codes), 1, 5));
  EXPECT_EQ(scale, 0x3C00);
  EXPECT_EQ(std::vector<int>(codes, codes + 5), (std::vector<int>{127, 0, 2, 2, 0}));
}

TEST_P(ConvertTest, Q8HoldsItsLargestNumberAndNothingMore) {
  std::byte scale[2];
  std::byte code[1];
  float value = kQ8Largest;
  EXPECT_TRUE(q8_from_f32(&value, scale, code, 1, 1));
  value = std::nextafter(value, std::numeric_limits<float>::infinity());
  EXPECT_FALSE(q8_from_f32(&value, scale, code, 1, 1));
}

TEST_P(ConvertTest, Q8RefusesScalesAndCodesThatNoEncoderWrites) {
  float out[1];
  const auto decodes = [&out](std::uint16_t scale, int code) {
    const auto byte = static_cast<std::byte>(code);
    return f32_from_q8(reinterpret_cast<const std::byte*>(&scale), &byte, out, 1, 1);
  };
  EXPECT_TRUE(decodes(0x3C00, -127));
  EXPECT_FALSE(decodes(0x3C00, -128));
  EXPECT_FALSE(decodes(0x7C00, 1)) << "infinity";
  EXPECT_FALSE(decodes(0x7E00, 1)) << "NaN";
  EXPECT_FALSE(decodes(0xBC00, 1)) << "negative";
  EXPECT_FALSE(decodes(0x8000, 1)) << "negative zero";
  EXPECT_TRUE(decodes(0x6007, 127)) << "515.5";
  EXPECT_FALSE(decodes(0x6008, 127)) << "516: f16 cannot hold 127 times that";
  EXPECT_FALSE(decodes(0x7BFF, 1)) << "65,504";
  EXPECT_FALSE(decodes(0x3C00, 126)) << "a smaller scale would have covered it";
  EXPECT_FALSE(decodes(0, 1));
  EXPECT_TRUE(decodes(0, 0));
  EXPECT_TRUE(decodes(1, 3)) << "of 1 step, which any value up to it gets";
  EXPECT_FALSE(decodes(2, 63)) << "1 step would have covered 126 of them";
  EXPECT_TRUE(decodes(2, 64));
}

}  // namespace
}  // namespace celslm
