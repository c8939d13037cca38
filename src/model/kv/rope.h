// Rotary position embedding on the host, with ggml's arithmetic.
//
// One implementation serves local prefill and import of K from packs: that is what makes both give the same bits.
#pragma once

#include <span>
#include <vector>

#include "model/config.h"

struct ggml_tensor;

namespace celslm {

// Cosines and sines of one position, each [dimensions / 2], with YaRN's magnitude in them.
struct RopeAngles {
  const float* cos = nullptr;
  const float* sin = nullptr;
};

// Immutable; thread-safe.
class Rope {
 public:
  // dimensions may be 0: nothing turns. factors: [dimensions / 2] f32 in host memory, or null; need not outlive this.
  Rope(const RopeConfig& config, const ggml_tensor* factors);

  int n_pairs() const { return config_.dimensions / 2; }
  bool neox() const { return config_.neox; }  // pairs are (i, i + n_pairs()), else (2i, 2i + 1)
  // cos and sin: [n_pairs]
  void angles(int position, std::span<float> cos, std::span<float> sin) const;
  // One head: rotates the first `dimensions` values, copies the others. in and out: [head_dim], not overlapping.
  void rotate(std::span<const float> in, RopeAngles angles, float* out) const;

 private:
  RopeConfig config_;
  std::vector<float> factors_;  // empty: all 1
  float theta_scale_;           // from one pair's angle to the next
  float ramp_low_ = 0.0F;       // YaRN: pairs up to here keep their frequency,
  float ramp_high_ = 0.0F;      // pairs from here on are interpolated
};

// The angles of the rows of a batch, re-used while the positions stay the same (layer after layer, step after step).
class RopeTable {
 public:
  void fill(const Rope& rope, std::span<const int> positions);
  RopeAngles row(int i) const {
    const auto at = static_cast<std::size_t>(i) * stride_;
    return {.cos = values_.data() + at, .sin = values_.data() + at + stride_ / 2};
  }

 private:
  std::vector<int> positions_;
  std::vector<float> values_;  // [row][cos, sin][n_pairs]
  std::size_t stride_ = 0;
};

}  // namespace celslm
