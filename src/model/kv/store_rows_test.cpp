#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "core/bytes.h"
#include "hwy/highway.h"
#include "model/kv/kv_rows.h"
#include "model/kv/rope_cache.h"

namespace celslm {
namespace {

RopeConfig rope_config(bool neox, int dimensions) {
  return {.neox = neox, .dimensions = dimensions, .yarn_ext_factor = 0.0F};
}

std::vector<float> noise(std::size_t n, float size, unsigned seed) {
  std::vector<float> out(n);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, size);
  for (float& value : out) value = normal(random);
  return out;
}

// One head of one row, stored with and without fusion.
struct Stored {
  Bytes bytes;
  bool fits = false;
  bool operator==(const Stored&) const = default;
};

using Store = bool (*)(const KvRows&, const Rope&, int, int, const float*, RopeAngles, float*);

Stored stored(Store store, KvType type, const Rope& rope, const std::vector<float>& k, const float* bias, int position) {
  const auto width = static_cast<int>(k.size());
  Stored out{.bytes = Bytes(row_bytes(type, width))};
  const KvRows rows{.type = type, .k = out.bytes.data(), .v = nullptr, .capacity = 1, .head_dim = width, .k_bias = bias};
  const RopeCache cache(rope);
  std::vector<float> far;
  std::vector<float> scratch(key_scratch(width));
  out.fits = store(rows, rope, 0, 0, k.data(), cache.angles(position, far), scratch.data());
  return out;
}

TEST(StoreRowsTest, GivesTheSameBitsInOnePassAsStepByStepOnEveryInstructionSet) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    for (const auto& [width, dimensions] :
         {std::pair(64, 64), {128, 128}, {64, 32}, {96, 96}, {20, 20}, {32, 8}, {256, 256}}) {
      for (const bool neox : {false, true}) {
        const Rope rope(rope_config(neox, dimensions), nullptr);
        const auto bias = noise(static_cast<std::size_t>(width), 30.0F, 7);
        for (const KvType type : {KvType::kF16, KvType::kBf16, KvType::kF32}) {
          for (const float size : {1e-7F, 1.0F, 3e4F}) {
            const auto k = noise(static_cast<std::size_t>(width), size, static_cast<unsigned>(width));
            for (const float* b : {static_cast<const float*>(nullptr), bias.data()}) {
              EXPECT_EQ(stored(place_key, type, rope, k, b, 1234), stored(store_key, type, rope, k, b, 1234))
                  << hwy::TargetName(target) << " " << width << " " << dimensions << " " << neox << " " << to_string(type)
                  << " " << size;
            }
          }
        }
      }
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST(StoreRowsTest, ReportsWhatBecomesInfinite) {
  const Rope rope(rope_config(true, 64), nullptr);
  const std::vector<float> largest(64, 65504.0F);
  EXPECT_TRUE(stored(place_key, KvType::kF16, rope, largest, nullptr, 0).fits) << "not rotated";
  EXPECT_FALSE(stored(place_key, KvType::kF16, rope, largest, nullptr, 1).fits) << "65,504 * (cos 1 + sin 1)";
  EXPECT_FALSE(stored(store_key, KvType::kF16, rope, largest, nullptr, 1).fits);
  EXPECT_TRUE(stored(place_key, KvType::kBf16, rope, largest, nullptr, 1).fits);
  const std::vector<float> bias(64, 100.0F);
  EXPECT_FALSE(stored(place_key, KvType::kF16, rope, largest, bias.data(), 0).fits);
}

TEST(RopeCacheTest, HasTheAnglesOfRopeAtAnyPositionForAnyThread) {
  const Rope rope(rope_config(true, 16), nullptr);
  const RopeCache cache(rope);
  constexpr int kEnd = RopeCache::kPage * RopeCache::kPages;
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      std::vector<float> far;
      std::vector<float> expected(16);
      for (const int position : {0, 1, 255, 256, 700, kEnd - 1, kEnd, kEnd + 12345}) {
        rope.angles(position, std::span(expected).first(8), std::span(expected).last(8));
        const RopeAngles angles = cache.angles(position, far);
        EXPECT_EQ(std::memcmp(angles.cos, expected.data(), 32), 0) << position;
        EXPECT_EQ(std::memcmp(angles.sin, expected.data() + 8, 32), 0) << position;
      }
    });
  }
}

}  // namespace
}  // namespace celslm
