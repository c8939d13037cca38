// What may be computed and what may be fetched.
#pragma once

#include <optional>

#include "core/clock.h"

namespace celslm {

enum class Prefer {
  kLatency,  // whatever is fastest
  kEnergy,   // computes only what no source can supply
  kBytes,    // asks sources that cross a network only for what may not be computed here
};

// What the operator of an edge chooses. What no source can supply is computed in any case.
struct LoadPolicy {
  Prefer prefer = Prefer::kLatency;
  int max_compute_percent = 100;  // of a context's layers, while a source could supply them

  // The layers that may be computed while a source could supply them, at most.
  int max_compute_layers(int n_layers) const { return prefer == Prefer::kEnergy ? 0 : n_layers * max_compute_percent / 100; }
};

// The same for one load, with what is known before it begins.
struct PlanOptions {
  LoadPolicy policy;
  int max_compute_layers = 1 << 20;   // a limit of this context's beside the policy's
  double own_share = 0;               // the user's own tokens through a layer, as a part of the layer's computation
  double layer_s = 0;                 // one layer's computation, from earlier; 0: unknown
  std::optional<TimePoint> deadline;  // from then on nothing is asked of sources: the rest is computed
};

}  // namespace celslm
