#include "model/matrix/packed_matrix.h"

#include <ggml.h>
#include <gmock/gmock.h>
#include <hwy/base.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/hash.h"
#include "model/matrix/panel.h"

namespace celslm {
namespace {

struct Type {
  const char* name;
  WeightType type;
  ggml_type ggml;
  std::vector<std::size_t> halves;  // where a block has f16 numbers
};

const std::vector<Type>& types() {
  static const std::vector<Type> kTypes = {
      {"Q4_0", WeightType::kQ40, GGML_TYPE_Q4_0, {0}},    {"Q4_1", WeightType::kQ41, GGML_TYPE_Q4_1, {0, 2}},
      {"Q5_0", WeightType::kQ50, GGML_TYPE_Q5_0, {0}},    {"Q5_1", WeightType::kQ51, GGML_TYPE_Q5_1, {0, 2}},
      {"Q8_0", WeightType::kQ80, GGML_TYPE_Q8_0, {0}},    {"IQ4_NL", WeightType::kIq4Nl, GGML_TYPE_IQ4_NL, {0}},
      {"MXFP4", WeightType::kMxfp4, GGML_TYPE_MXFP4, {}}, {"Q2_K", WeightType::kQ2K, GGML_TYPE_Q2_K, {80, 82}},
      {"Q3_K", WeightType::kQ3K, GGML_TYPE_Q3_K, {108}},  {"Q4_K", WeightType::kQ4K, GGML_TYPE_Q4_K, {0, 2}},
      {"Q5_K", WeightType::kQ5K, GGML_TYPE_Q5_K, {0, 2}}, {"Q6_K", WeightType::kQ6K, GGML_TYPE_Q6_K, {208}}};
  return kTypes;
}

// Any bits but those of the scales, which are of a size as in models, as a file holds them and as ggml reads them.
struct FileMatrix {
  FileMatrix(const Type& t, std::int64_t inputs, std::int64_t outputs, unsigned seed)
      : type(t.type), n_in(inputs), n_out(outputs) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<int> any(0, 255);
    std::uniform_int_distribution<int> exponent(118, 124);
    std::uniform_real_distribution<float> size(-0.02F, 0.02F);
    const FileBlock unit = file_block(t.type);
    EXPECT_EQ(unit.bytes, ggml_type_size(t.ggml));
    EXPECT_EQ(unit.values, ggml_blck_size(t.ggml));
    bytes.resize(static_cast<std::size_t>(n_out * n_in / unit.values) * unit.bytes);
    for (std::byte& b : bytes) b = static_cast<std::byte>(any(random));
    for (std::size_t at = 0; at < bytes.size(); at += unit.bytes) {
      for (const std::size_t offset : t.halves) {
        const auto scale = hwy::F16FromF32(size(random));
        std::memcpy(bytes.data() + at + offset, &scale, sizeof scale);
      }
      if (t.type == WeightType::kMxfp4) bytes[at] = static_cast<std::byte>(exponent(random));
    }
    values.resize(static_cast<std::size_t>(n_out * n_in));
    ggml_get_type_traits(t.ggml)->to_float(bytes.data(), values.data(), n_out * n_in);
  }

  std::unique_ptr<PackedMatrix> packed() const { return PackedMatrix::create(type, bytes, n_in, n_out).value(); }

  WeightType type;
  std::int64_t n_in;
  std::int64_t n_out;
  std::vector<std::byte> bytes;
  std::vector<float> values;  // [n_out][n_in]
};

std::vector<float> activations(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<std::size_t>(n));
  for (float& x : out) x = normal(random);
  return out;
}

std::vector<Q8Block> quantized(const std::vector<float>& x, std::int64_t n_in, int nth = 1) {
  const auto n_tokens = static_cast<std::int64_t>(x.size()) / n_in;
  std::vector<Q8Block> out(x.size() / 32);
  for (int ith = 0; ith < nth; ++ith) q8_quantize(x.data(), n_in, n_tokens, out.data(), ith, nth);
  return out;
}

std::vector<float> product(const PackedMatrix& w, const std::vector<float>& x, int nth = 1) {
  const auto n_tokens = static_cast<std::int64_t>(x.size()) / w.n_in();
  std::vector<float> out(static_cast<std::size_t>(n_tokens * w.n_out()), std::numeric_limits<float>::quiet_NaN());
  const auto blocks = quantized(x, w.n_in(), nth);
  for (int ith = 0; ith < nth; ++ith) w.multiply(blocks.data(), n_tokens, out.data(), ith, nth);
  return out;
}

// In plain loops over what the blocks stand for; `size` is the sum of the terms' sizes, for the bound on rounding.
struct Plain {
  double value = 0;
  double size = 0;
};
Plain plain(const FileMatrix& w, const std::vector<Q8Block>& x, std::int64_t token, std::int64_t row) {
  Plain out;
  for (std::int64_t i = 0; i < w.n_in; ++i) {
    const Q8Block& block = x[static_cast<std::size_t>(token * w.n_in / 32 + i / 32)];
    const double term = static_cast<double>(w.values[static_cast<std::size_t>(row * w.n_in + i)]) * block.values[i % 32] *
                        static_cast<double>(block.scale);
    out.value += term;
    out.size += std::abs(term);
  }
  return out;
}

class PackedMatrixTest : public testing::TestWithParam<Type> {
 protected:
  ~PackedMatrixTest() override { hwy::SetSupportedTargetsForTest(0); }
  FileMatrix matrix(std::int64_t n_in, std::int64_t n_out, unsigned seed = 1) const {
    return {GetParam(), n_in, n_out, seed};
  }
  std::int64_t unit() const { return file_block(GetParam().type).values; }
};
INSTANTIATE_TEST_SUITE_P(Types, PackedMatrixTest, testing::ValuesIn(types()),
                         [](const auto& one) { return one.param.name; });

void expect_plain_sums(const FileMatrix& w, std::int64_t n_tokens) {
  const auto x = activations(n_tokens * w.n_in, static_cast<unsigned>(n_tokens));
  const auto blocks = quantized(x, w.n_in);
  const auto got = product(*w.packed(), x);
  for (std::int64_t i = 0; i < n_tokens * w.n_out; ++i) {
    const Plain want = plain(w, blocks, i / w.n_out, i % w.n_out);
    ASSERT_NEAR(got[static_cast<std::size_t>(i)], want.value, 2e-6 * want.size)
        << w.n_in << " x " << w.n_out << ", " << n_tokens << " tokens, result " << i;
  }
}

TEST_P(PackedMatrixTest, EqualsPlainSumsForEveryShapeOfTile) {
  for (const std::int64_t n_in : {unit(), 2 * unit(), 5 * unit(), std::int64_t{2304}}) {
    for (const std::int64_t n_out : {1, 8, 31, 32, 33, 70}) {
      for (const std::int64_t n_tokens : {1, 2, 5, 6, 7, 13}) expect_plain_sums(matrix(n_in, n_out), n_tokens);
    }
  }
}

TEST(Q8QuantizeTest, RoundsActivationsToTheNearestOf255Steps) {
  const auto x = activations(320, 3);
  const auto blocks = quantized(x, 320);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Q8Block& block = blocks[i / 32];
    EXPECT_NEAR(block.values[i % 32] * block.scale, x[i], 0.5001F * block.scale);
  }
}

TEST_P(PackedMatrixTest, TheBitsDependNeitherOnTheBatchNorOnThreads) {
  const FileMatrix w = matrix(2304, 70);
  const auto packed = w.packed();
  const auto x = activations(std::int64_t{11} * 2304, 2);
  const auto together = product(*packed, x);
  EXPECT_EQ(product(*packed, x, 3), together);
  for (std::ptrdiff_t token = 0; token < 11; ++token) {
    const auto alone = product(*packed, {x.begin() + token * 2304, x.begin() + (token + 1) * 2304});
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + token * 70)) << token;
  }
}

TEST_P(PackedMatrixTest, BiasAndResidualAreAddedBehindTheProduct) {
  const FileMatrix w = matrix(256, 70);
  const auto packed = w.packed();
  const auto x = activations(std::int64_t{9} * 256, 2);
  const auto bias = activations(70, 6);
  const auto residual = activations(std::int64_t{9} * 70, 7);
  auto want = product(*packed, x);
  for (std::size_t i = 0; i < want.size(); ++i) want[i] = want[i] + bias[i % 70] + residual[i];
  std::vector<float> out(want.size());
  const auto blocks = quantized(x, 256);
  for (int ith = 0; ith < 2; ++ith)
    packed->multiply(blocks.data(), 9, out.data(), ith, 2, {.bias = bias.data(), .residual = residual.data()});
  EXPECT_EQ(out, want);
}

TEST_P(PackedMatrixTest, EveryInstructionSetWithFusedMultiplyAddGivesTheSameBits) {
  const FileMatrix w = matrix(2304, 70, 4);
  const auto packed = w.packed();
  const auto x = activations(std::int64_t{7} * 2304, 5);
  const auto want = product(*packed, x);
  for (const std::int64_t target : packed_detail::usable_targets()) {
    if (target > HWY_AVX2 && HWY_ARCH_X86) continue;  // older: two roundings
    hwy::SetSupportedTargetsForTest(target);
    EXPECT_EQ(product(*packed, x), want) << hwy::TargetName(target);
  }
}

// From whole numbers of a generator of our own: no library decides about a bit of it.
class Draws {
 public:
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<std::uint32_t>(state_ >> 33);
  }

 private:
  std::uint64_t state_ = 0x9E3779B97F4A7C15;
};

FileMatrix fixed_matrix(const Type& type) {
  FileMatrix out(type, 2304, 70, 1);
  Draws draws;
  for (std::byte& b : out.bytes) b = static_cast<std::byte>(draws.next());
  for (std::size_t at = 0; at < out.bytes.size(); at += file_block(type.type).bytes) {
    for (const std::size_t offset : type.halves) {
      const auto scale = static_cast<std::uint16_t>((draws.next() & 0x83FF) | 0x2000);  // of about 0.01, either sign
      std::memcpy(out.bytes.data() + at + offset, &scale, sizeof scale);
    }
    if (type.type == WeightType::kMxfp4) out.bytes[at] = static_cast<std::byte>(118 + draws.next() % 7);
  }
  return out;
}

std::string fixed_products_hash(const Type& type) {
  Draws draws;
  std::vector<float> x(std::size_t{7} * 2304);
  for (float& value : x) value = std::ldexp(static_cast<float>(draws.next() % 4096) - 2048.0F, -9);
  const auto out = product(*fixed_matrix(type).packed(), x);
  return hash_of(std::as_bytes(std::span(out))).hex().substr(0, 16);
}

// An edge on ARM continues what a cloud on x86 computed: where bits differ is documented (docs/architecture.md), and not
// here.
TEST_P(PackedMatrixTest, TheBitsAreTheSameOnX86AndArm) {
  if (HWY_ARCH_X86 && (hwy::SupportedTargets() & HWY_AVX2) == 0) GTEST_SKIP() << "without fused multiply-add: two roundings";
  const std::map<std::string, std::string> golden = {
      {"Q4_0", "b5ed5f913b362e51"},  {"Q4_1", "3627c524474b7ebb"}, {"Q5_0", "6c9134d90782ec4d"},
      {"Q5_1", "a1772428c45eca43"},  {"Q8_0", "49dc123c1045d0be"}, {"IQ4_NL", "37400c6c77b7322e"},
      {"MXFP4", "23bd01030127a924"}, {"Q2_K", "3fe3662285dea328"}, {"Q3_K", "879c50cb57de7500"},
      {"Q4_K", "ca4cd893c70f3706"},  {"Q5_K", "ef2c2984f6f7f966"}, {"Q6_K", "e28cb3b548b55f09"}};
  EXPECT_EQ(fixed_products_hash(GetParam()), golden.at(GetParam().name));
}

TEST_P(PackedMatrixTest, ZerosGiveZeroAndInfinityIsNotHidden) {
  const FileMatrix w = matrix(256, 3);
  const auto packed = w.packed();
  EXPECT_THAT(product(*packed, std::vector<float>(256)), testing::Each(0.0F));
  std::vector<float> x(256, 1.0F);
  x[40] = std::numeric_limits<float>::infinity();
  for (const float value : product(*packed, x)) EXPECT_FALSE(std::isfinite(value));
}

TEST_P(PackedMatrixTest, IsAboutAsSmallAsInTheFile) {
  const FileMatrix w = matrix(1024, 64);
  EXPECT_LE(static_cast<double>(w.packed()->size_bytes()), 1.04 * static_cast<double>(w.bytes.size()));
}

TEST_P(PackedMatrixTest, RefusesSizesThatDoNotAgree) {
  const FileMatrix w = matrix(512, 3);
  const auto create = [&](ByteView bytes, std::int64_t n_in, std::int64_t n_out) {
    return PackedMatrix::create(w.type, bytes, n_in, n_out).has_value();
  };
  EXPECT_TRUE(create(w.bytes, 512, 3));
  EXPECT_FALSE(create(w.bytes, 512, 4));
  EXPECT_FALSE(create(w.bytes, 768, 3));
  EXPECT_FALSE(create(w.bytes, 48, 32));
  EXPECT_FALSE(create({}, 0, 0));
  EXPECT_FALSE(create(w.bytes, -512, -3));
}

}  // namespace
}  // namespace celslm
