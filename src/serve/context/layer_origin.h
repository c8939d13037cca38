// Where a context's KV came from, and how long loading it took.
#pragma once

#include <array>
#include <cstdint>

#include "core/clock.h"
#include "kv/pack/pack.h"

namespace celslm {

// Where a layer's KV came from.
enum class Source : std::uint8_t { kCompute, kMemory, kDisk, kPeer, kCloud };
const char* to_string(Source source);

inline bool is_network(Source source) {
  return source == Source::kPeer || source == Source::kCloud;
}

struct LayerOrigin {
  Provenance provenance = Provenance::kNative;
  Source source = Source::kCompute;  // of most of its blocks
  Duration after{};                  // from the beginning of the load
  std::array<int, 5> blocks{};       // by Source: where its blocks came from
};

// What a load was expected to take, and took. Milliseconds; 0: not known.
struct LoadReport {
  double predicted_ms = 0;
  double took_ms = 0;
  std::uint64_t hedged_bytes = 0;  // that arrived twice, or too late
};

}  // namespace celslm
