// KV that can stand in for the target model's own: mapped KV, and the baselines that a map must beat.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "align/map/kv_map.h"
#include "align/map/kv_planes.h"

namespace celslm {

enum class KvVariant : std::uint8_t {
  kMapped,   // computed by the map
  kRawCopy,  // the source layer at the same relative depth, unchanged: head by head, truncated or zero-padded to the
             // target's head size
  kRandom,   // computed by a map with random matrices, each row with the norm of the map's, and the map's bias
};
inline constexpr std::array kKvVariants{KvVariant::kMapped, KvVariant::kRawCopy, KvVariant::kRandom};
const char* to_string(KvVariant variant);

// `map` with random matrices (see kRandom) and no networks. Deterministic.
KvMap randomised(const KvMap& map);

// All layers of the target. `pairs` as in map_planes; `random` is randomised(map), which the caller computes once.
KvPlanes make_variant(KvVariant variant, const KvMap& map, const KvMap& random, const KvPlanes& source,
                      std::span<const int> pairs);

}  // namespace celslm
