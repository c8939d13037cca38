#include "model/matrix/q8_matrix.h"

#include <gmock/gmock.h>
#include <hwy/base.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace celslm {
namespace {

// A Q8_0 matrix as a file holds it, and as numbers.
struct FileMatrix {
  FileMatrix(std::int64_t inputs, std::int64_t outputs, unsigned seed) : n_in(inputs), n_out(outputs) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<int> any(-128, 127);
    std::uniform_real_distribution<float> size(0.001F, 0.02F);
    for (std::int64_t block = 0; block < n_out * n_in / 32; ++block) {
      const auto scale = hwy::F16FromF32(size(random));
      const auto* raw = reinterpret_cast<const std::byte*>(&scale);
      bytes.insert(bytes.end(), raw, raw + 2);
      for (int i = 0; i < 32; ++i) {
        const int value = any(random);
        bytes.push_back(static_cast<std::byte>(value));
        values.push_back(hwy::F32FromF16(scale) * static_cast<float>(value));
      }
    }
  }

  std::unique_ptr<Q8Matrix> packed() const { return Q8Matrix::create(bytes, n_in, n_out).value(); }

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

std::vector<float> product(const Q8Matrix& w, const std::vector<float>& x, int nth = 1) {
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

class Q8MatrixTest : public testing::Test {
 protected:
  ~Q8MatrixTest() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_F(Q8MatrixTest, EqualsPlainSumsForEveryShapeOfTile) {
  for (const std::int64_t n_in : {32, 64, 160, 896}) {
    for (const std::int64_t n_out : {1, 8, 31, 32, 33, 70}) {
      const FileMatrix w(n_in, n_out, static_cast<unsigned>(n_in + n_out));
      const auto packed = w.packed();
      for (const std::int64_t n_tokens : {1, 2, 5, 6, 7, 13}) {
        const auto x = activations(n_tokens * n_in, static_cast<unsigned>(n_tokens));
        const auto blocks = quantized(x, n_in);
        const auto got = product(*packed, x);
        for (std::int64_t i = 0; i < n_tokens * n_out; ++i) {
          const Plain want = plain(w, blocks, i / n_out, i % n_out);
          ASSERT_NEAR(got[static_cast<std::size_t>(i)], want.value, 1e-6 * want.size)
              << n_in << " x " << n_out << ", " << n_tokens << " tokens, result " << i;
        }
      }
    }
  }
}

TEST_F(Q8MatrixTest, RoundsActivationsToTheNearestOf255Steps) {
  const auto x = activations(320, 3);
  const auto blocks = quantized(x, 320);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Q8Block& block = blocks[i / 32];
    EXPECT_NEAR(block.values[i % 32] * block.scale, x[i], 0.5001F * block.scale);
  }
}

TEST_F(Q8MatrixTest, TheBitsDependNeitherOnTheBatchNorOnThreads) {
  const FileMatrix w(160, 70, 1);
  const auto packed = w.packed();
  const auto x = activations(std::int64_t{11} * 160, 2);
  const auto together = product(*packed, x);
  EXPECT_EQ(product(*packed, x, 3), together);
  for (std::ptrdiff_t token = 0; token < 11; ++token) {
    const auto alone = product(*packed, {x.begin() + token * 160, x.begin() + (token + 1) * 160});
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + token * 70)) << token;
  }
}

TEST_F(Q8MatrixTest, EveryInstructionSetWithFusedMultiplyAddGivesTheSameBits) {
  const FileMatrix w(896, 70, 4);
  const auto packed = w.packed();
  const auto x = activations(std::int64_t{7} * 896, 5);
  const auto want = product(*packed, x);
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (target > HWY_AVX2 && HWY_ARCH_X86) continue;  // older: two roundings
    hwy::SetSupportedTargetsForTest(target);
    EXPECT_EQ(product(*packed, x), want) << hwy::TargetName(target);
  }
}

TEST_F(Q8MatrixTest, ZerosGiveZeroAndInfinityIsNotHidden) {
  const FileMatrix w(64, 3, 1);
  const auto packed = w.packed();
  EXPECT_THAT(product(*packed, std::vector<float>(64)), testing::Each(0.0F));
  std::vector<float> x(64, 1.0F);
  x[40] = std::numeric_limits<float>::infinity();
  for (const float value : product(*packed, x)) EXPECT_FALSE(std::isfinite(value));
}

TEST_F(Q8MatrixTest, RefusesSizesThatDoNotAgree) {
  const FileMatrix w(64, 3, 1);
  EXPECT_FALSE(Q8Matrix::create(w.bytes, 64, 4));
  EXPECT_FALSE(Q8Matrix::create(w.bytes, 96, 3));
  EXPECT_FALSE(Q8Matrix::create(w.bytes, 48, 4));
  EXPECT_FALSE(Q8Matrix::create({}, 0, 0));
  EXPECT_FALSE(Q8Matrix::create(w.bytes, -32, -6));
}

}  // namespace
}  // namespace celslm
