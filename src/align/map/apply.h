// Applies a map: one model's KV in another model's shape.
#pragma once

#include <span>
#include <vector>

#include "align/map/kv_map.h"
#include "align/map/kv_planes.h"
#include "kv/codec/codec.h"

namespace celslm {

// Whether `map` is of these two models: kMismatch, naming the side.
Status check_models(const KvMap& map, const ModelFingerprint& source, const ModelFingerprint& target);
// Whether it may be used: kMismatch, with the figures, for a map that was refused or never judged.
Status check_gate(const KvMap& map);

// K before RoPE, or V, of one target layer: [pairs.size()][target kv_width]. Token t of the target is made from token
// pairs[t] of `source`, which is of the map's source model. In f32.
std::vector<float> map_plane(const KvMap& map, int target_layer, BlockKind kind, const KvPlanes& source,
                             std::span<const int> pairs);
// The same, K and V of all target layers.
KvPlanes map_planes(const KvMap& map, const KvPlanes& source, std::span<const int> pairs);

}  // namespace celslm
