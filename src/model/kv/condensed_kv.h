// Rows of K and V that stand for more tokens than there are rows, with what attention needs beside them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/config.h"

namespace celslm {

// Log masses are within +-kMaxLogMass: e^32 tokens are more than any context has, and e^-32 of one is nothing.
inline constexpr float kMaxLogMass = 32.0F;

// One layer. A row of one KV head may come from another token than the same row of the next head.
struct CondensedLayer {
  std::vector<float> k;                 // [n_rows][n_kv_heads][head_dim], before RoPE and without the model's bias
  std::vector<float> v;                 // the same shape
  std::vector<std::int32_t> positions;  // [n_kv_heads][n_rows], 0 <= position < n_tokens
  std::vector<float> log_mass;          // [n_kv_heads][n_rows]; 0: the row stands for one token
};

// A context's KV for one model: n_rows rows in every layer, for n_tokens tokens from position 0 on.
struct CondensedKv {
  int n_rows = 0;
  int n_tokens = 0;
  std::vector<CondensedLayer> layers;
};

// Consecutive rows of one layer, or some of what they are made of: spans in the layout of CondensedLayer.
struct CondensedRows {
  int n_rows = 0;
  std::span<const float> k;
  std::span<const float> v;
  std::span<const std::int32_t> positions;
  std::span<const float> log_mass;
};

// kInvalid, with the index of the first that is wrong, unless every position is in [0, n_tokens) and every log mass is
// finite and within +-kMaxLogMass.
Status check_positions(std::span<const std::int32_t> positions, int n_tokens);
Status check_log_mass(std::span<const float> log_mass);

// kInvalid, naming the layer and what is wrong, unless numbers and sizes are those of a context of this model and all values
// are finite.
Status check_condensed(const ModelConfig& config, const CondensedKv& kv);

}  // namespace celslm
