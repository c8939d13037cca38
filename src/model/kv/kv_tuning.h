// Constants that training adds to a context's KV, one for each channel of K and V, so that a small model answers better from
// it (docs/tuning-format.md). The KV of users' own tokens stays as the model computes it.
#pragma once

#include <span>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "model/config.h"
#include "model/kv/kv_segment.h"

namespace celslm {

struct KvTuning {
  Hash256 id;  // names the constants in packs
  int n_layers = 0;
  int kv_width = 0;
  std::vector<float> k;  // [n_layers][kv_width]: added to K before RoPE, where the model's own bias is added, too
  std::vector<float> v;  // the same shape: added to V
};

// kMismatch, with both shapes, unless the constants are of this model's shape.
Status check_shape(const KvTuning& tuning, const ModelConfig& model);

// Adds one layer's constants to rows of its K before RoPE (without the bias) and V, both [n][kv_width], and rounds them as a
// segment of `type` would. Both are rounded to it already, so that rows computed here and rows of a fetched pack get the
// same bits. kInvalid, naming layer and channel, for a sum that `type` cannot hold; the rows are then unspecified.
Status tune_rows(const KvTuning& tuning, int layer, KvType type, std::span<float> k, std::span<float> v);

}  // namespace celslm
