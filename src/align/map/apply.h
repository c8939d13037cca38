// Applies a layer map: one model's KV becomes KV in the shape of another.
#pragma once

#include <span>
#include <vector>

#include "align/map/kv_map.h"
#include "align/map/kv_planes.h"
#include "kv/codec/codec.h"

namespace celslm {

// kMismatch, naming the side, unless `map` was fitted for exactly these two models, and for K as it is defined now.
Status check_models(const KvMap& map, const Model& source, const Model& target);
// kMismatch, with the measurements, unless the map's gate has passed.
Status check_gate(const KvMap& map);

// K before RoPE, or V, of one target layer: [pairs.size()][target kv_width], f32. Row t is computed from row pairs[t] of
// `source`, the KV of the map's source model.
std::vector<float> map_plane(const KvMap& map, int target_layer, BlockKind kind, const KvPlanes& source,
                             std::span<const int> pairs);
// K and V of all target layers.
KvPlanes map_planes(const KvMap& map, const KvPlanes& source, std::span<const int> pairs);

}  // namespace celslm
