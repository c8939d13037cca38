#include "model/kv/rope.h"

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include "core/hash.h"

namespace celslm {
namespace {

std::string angles_hash(const RopeConfig& config) {
  const Rope rope(config, nullptr);
  const auto n = static_cast<std::size_t>(rope.n_pairs());
  std::vector<float> all(8192 * 2 * n);
  for (std::size_t position = 0; position < 8192; ++position) {
    const std::span row(all.data() + position * 2 * n, 2 * n);
    rope.angles(static_cast<int>(position), row.first(n), row.last(n));
  }
  return hash_of(std::as_bytes(std::span(all))).hex().substr(0, 16);
}

// Sines and cosines are the C library's: these are its bits on x86 with fused multiply-add and on ARM.
TEST(RopeTest, AnglesAreTheSameOnX86AndArm) {
  EXPECT_EQ(angles_hash({.neox = true, .dimensions = 64, .base = 1e4F, .yarn_ext_factor = 0.0F}), "4733638e947617fc");
  EXPECT_EQ(angles_hash({.neox = true, .dimensions = 128, .base = 1e6F, .yarn_ext_factor = 0.0F}), "0c2f1b6197b50313");
}

}  // namespace
}  // namespace celslm
