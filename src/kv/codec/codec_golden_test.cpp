// The bytes of every codec, and of every type that a segment keeps, for one fixed block: they may not change with the
// compiler, its options or the CPU, since packs are signed and compared byte by byte.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "core/hash.h"
#include "hwy/highway.h"
#include "kv/codec/codec.h"
#include "model/kv/kv_rows.h"

namespace celslm {
namespace {

constexpr BlockShape kKeys{.kind = BlockKind::kKey, .n_tokens = 256, .n_kv_heads = 2, .head_dim = 64};
constexpr BlockShape kValues{.kind = BlockKind::kValue, .n_tokens = 201, .n_kv_heads = 3, .head_dim = 32};

// Sums of four whole numbers over powers of two, so that every value is exact and no library or option decides about it: a
// slow drift over tokens, channels of different sizes, and a few values that stand out, as in real KV.
std::vector<float> fixed_values(const BlockShape& shape) {
  std::uint64_t state = 0x9E3779B97F4A7C15;
  const auto next = [&state] {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<int>(state >> 52) - 2048;
  };
  std::vector<float> out;
  for (std::size_t i = 0; i < shape.values(); ++i) {
    const auto channel = static_cast<int>(i % static_cast<std::size_t>(shape.head_dim));
    const auto token = static_cast<int>(i / static_cast<std::size_t>(shape.head_dim * shape.n_kv_heads));
    const int sum = next() + next() + next() + (channel % 7 == 0 ? 40 * (token % 97) : 0);
    out.push_back(std::ldexp(static_cast<float>(sum), channel % 11 == 3 ? -8 : -11));
  }
  return out;
}

class CodecGoldenTest : public testing::TestWithParam<std::int64_t> {
 protected:
  CodecGoldenTest() {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  ~CodecGoldenTest() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

INSTANTIATE_TEST_SUITE_P(Targets, CodecGoldenTest, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& test) { return std::string(hwy::TargetName(test.param)); });

std::string short_hash(ByteView bytes) {
  return hash_of(bytes).hex().substr(0, 16);
}

TEST_P(CodecGoldenTest, TheFixedValuesAreWhatTheyWere) {
  const auto keys = fixed_values(kKeys);
  const auto values = fixed_values(kValues);
  EXPECT_EQ(short_hash(std::as_bytes(std::span(keys))), "99801ab76077782f");
  EXPECT_EQ(short_hash(std::as_bytes(std::span(values))), "00fe0c1b546d7573");
}

TEST_P(CodecGoldenTest, EveryCodecEncodesToTheSameBytes) {
  const std::map<std::string, std::string> golden = {
      {"f16 keys", "c5c9c39413d6f167"},  {"f16 weighted keys", "c5c9c39413d6f167"},  {"f16 values", "eb365e181c5a281b"},
      {"f16z keys", "b552ad304f8330eb"}, {"f16z weighted keys", "b552ad304f8330eb"}, {"f16z values", "fc417317981cdcde"},
      {"bf16 keys", "cf70f0c83d0b54f0"}, {"bf16 weighted keys", "cf70f0c83d0b54f0"}, {"bf16 values", "0b29c3dd8aa4cc24"},
      {"q8 keys", "b5d90e9c44a2ab20"},   {"q8 weighted keys", "b5d90e9c44a2ab20"},   {"q8 values", "a0f6be3b1fa1ef0b"},
      {"t4 keys", "38f56e0a98555fae"},   {"t4 weighted keys", "ec9c917988eb6114"},   {"t4 values", "7d44d1f2cf0ca43b"},
      {"t3 keys", "add925ca43c27ebb"},   {"t3 weighted keys", "7edb9bdedf41595b"},   {"t3 values", "5d6f3a403d237c04"},
      {"t2 keys", "935d58f6282dc7b2"},   {"t2 weighted keys", "a31cccab5dc6fa45"},   {"t2 values", "4494eab2d0ea5577"}};
  const auto check = [&](const std::string& name, const Result<Bytes>& bytes) {
    ASSERT_TRUE(bytes) << name;
    ASSERT_TRUE(golden.contains(name)) << "a new codec: add its bytes, which are " << short_hash(*bytes);
    EXPECT_EQ(short_hash(*bytes), golden.at(name)) << name;
  };
  std::vector<float> weights(128);
  for (std::size_t c = 0; c < weights.size(); ++c) weights[c] = 1.0F + static_cast<float>(c % 13);
  for (const Codec* codec : all_codecs()) {
    const std::string name(codec->name());
    check(name + " keys", codec->encode(kKeys, fixed_values(kKeys)));
    check(name + " weighted keys", codec->encode(kKeys, fixed_values(kKeys), weights));
    check(name + " values", codec->encode(kValues, fixed_values(kValues)));
  }
}

TEST_P(CodecGoldenTest, EveryTypeOfASegmentRoundsToTheSameBytes) {
  const auto values = fixed_values(kKeys);
  const std::map<KvType, std::string> golden = {{KvType::kF32, "99801ab76077782f"},
                                                {KvType::kF16, "c5c9c39413d6f167"},
                                                {KvType::kBf16, "cf70f0c83d0b54f0"},
                                                {KvType::kQ8, "2eab1c369b451022"}};
  for (const auto& [type, hash] : golden) {
    Bytes bytes(row_bytes(type, static_cast<int>(values.size())));
    round_to(type, values, bytes.data());
    EXPECT_EQ(short_hash(bytes), hash) << to_string(type);
  }
}

}  // namespace
}  // namespace celslm
