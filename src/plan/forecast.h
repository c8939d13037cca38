// When a context will be complete, for every way to divide its layers between computing and fetching.
#pragma once

#include <cstdint>
#include <span>

namespace celslm {

// A source that has every missing block: bytes at `rate_bytes_per_s` from `wait_s` on.
struct SourceRate {
  double rate_bytes_per_s = 0;
  double wait_s = 0;
};

// Times in seconds, rates in bytes per second; 0 means unknown or none.
struct ForecastInput {
  std::span<const std::uint64_t> missing_bytes;  // [n_layers]: of blocks that are not here yet
  int computing = 0;                             // the layer that local compute has reached: all below have been computed
  double computed_part = 0;                      // of that layer: 0 to 1
  int compute_limit = 0;                         // layers from this one on may not be computed
  double layer_s = 0;                            // one layer's computation
  double own_layer_s = 0;                        // the user's own tokens through one layer
  std::span<const SourceRate> sources;           // by wait_s
  // When a source will be that is still computing the context itself, where there is no better one: it can supply its last
  // layer only then, in whatever order it is asked.
  double source_complete_in_s = 0;
};

enum class FetchOrder {
  kShallowFirst,  // nothing more is computed here: the user's tokens follow the layers as they arrive
  kDeepFirst,     // towards the computation, which goes up
};

struct Forecast {
  double seconds = 0;  // until the user's own tokens have passed all layers; infinite where nothing can supply the context
  double fetch_s = 0;  // the same, if nothing more were computed
  int compute_until = 0;  // layers [computing, compute_until) are computed here
  FetchOrder order = FetchOrder::kShallowFirst;
};

// The best division. With a split at k, computing takes (k - computing) * layer_s and fetching what is missing from k up
// takes its bytes over the rate; the later of the two decides, and then the user's tokens have the layers from k up before
// them, because these are complete only now. Without computing they follow the layers as they arrive, which makes a fast
// link alone better than any split once the layers are quick to fetch and the user's tokens are not.
Forecast forecast(const ForecastInput& input);

}  // namespace celslm
