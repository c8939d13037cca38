// What KV the target model may read a context through: its own, mapped, and what a map has to be better than.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "align/map/exact_kv.h"
#include "align/map/kv_map.h"

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

// All layers of the target. pairs as in map_plane; `random` is randomised(map), made once by the caller.
KvPlanes make_variant(KvVariant variant, const KvMap& map, const KvMap& random, const KvPlanes& source,
                      std::span<const int> pairs);

// A segment with `below` in the layers below `split` and `from` in the others. Errors as make_segment.
Result<std::shared_ptr<KvSegment>> make_segment(const Model& model, const KvPlanes& below, const KvPlanes& from, int split);

}  // namespace celslm
