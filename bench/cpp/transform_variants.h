// The transform codecs with one thing changed at a time: what was tried on top of them (docs/compression.md).
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
  double step = 0.25;             // as in t3: K half of it, V twice
  bool deltas = false;            // rows of coefficients as differences from what the token before foretells, where shorter
  bool calibrated_basis = false;  // directions fitted to other contexts and not sent
  bool by_sensitivity = false;    // the step times the plane's factor
};

// One block over all tokens, in the codecs' own coder; adds its bits, a block's line in the pack's header included.
Status through_transform(const TransformVariant& variant, const Plane& plane, std::span<const Plane> others, double factor,
                         std::span<float> out, double& bits);

}  // namespace celslm
