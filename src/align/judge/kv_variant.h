// What KV the target model may read a context through besides its own: mapped KV, and the baselines that a map must beat.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "align/map/kv_map.h"
#include "align/map/kv_planes.h"

namespace celslm {

enum class KvVariant : std::uint8_t {
  kMapped,   // through the map
  kRawCopy,  // the source layer at the same relative depth as it is: head by head, cut or filled with zeros to the target's
             // size
  kRandom,   // through matrices of random numbers, each row as long as the map's; the map's bias
};
inline constexpr std::array kKvVariants{KvVariant::kMapped, KvVariant::kRawCopy, KvVariant::kRandom};
const char* to_string(KvVariant variant);

// The map with random matrices and no networks; the same for the same map.
KvMap randomised(const KvMap& map);

// All layers of the target. pairs as in map_planes; `random` is randomised(map), made once by the caller.
KvPlanes make_variant(KvVariant variant, const KvMap& map, const KvMap& random, const KvPlanes& source,
                      std::span<const int> pairs);

}  // namespace celslm
