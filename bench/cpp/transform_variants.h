// Variants of the transform codecs, each with one change (docs/compression.md).
#pragma once

#include <span>

#include "align/map/kv_planes.h"
#include "kv/codec/codec.h"

namespace celslm {

// One layer's K or V.
struct Plane {
  BlockKind kind = BlockKind::kKey;
  int layer = 0;
  int n_tokens = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  std::span<const float> values;  // [n_tokens][n_kv_heads][head_dim]

  std::size_t width() const { return static_cast<std::size_t>(n_kv_heads) * static_cast<std::size_t>(head_dim); }
};
Plane plane_of(const ModelConfig& config, const ExactKv& exact, int layer, BlockKind kind);

struct TransformVariant {
  double step = 0.25;             // relative; K uses half of it, V twice (as in t3)
  bool deltas = false;            // predict coefficients from the previous token's, if that is shorter
  bool calibrated_basis = false;  // directions are fitted to other contexts and not transmitted
  bool by_sensitivity = false;    // multiply the step by the plane's factor
};

// Encodes and decodes one block over all tokens with the codecs' entropy coder. Adds its size to `bits`, including the
// block's entry in the pack's header.
Status through_transform(const TransformVariant& variant, const Plane& plane, std::span<const Plane> others, double factor,
                         std::span<float> out, double& bits);

}  // namespace celslm
