// Selects the source layers that each target layer is computed from.
#pragma once

#include <vector>

#include "align/fit/gram.h"
#include "align/map/kv_map.h"

namespace celslm {

struct SelectOptions {
  int max_sources = 4;      // 1 to kMaxMapSources
  int candidates = 8;       // only the layers with the best R^2 alone are tried in combination
  double min_gain = 0.002;  // in held-out R^2, required of one more layer and of all heads over the same head
  double lambda = 0.01;     // relative to the mean diagonal of X'X
  int rank = 0;             // of each matrix; 0: full matrices
  bool all_heads = true;    // try maps that compute each target head from all source heads
  bool same_head = true;    // try maps from head to head, if the head counts allow it (source_heads())
};

// The sums for K or for V. Refers to objects of the caller.
struct PlaneData {
  const Gram& fit;
  const Gram& held_out;
  std::vector<int> source_layers;  // the layers that the columns of x stand for, in order
  const MapModel& source;
  const MapModel& target;
};

// Greedy forward selection by held-out R^2: the best layer alone, then repeatedly the one that adds most, as long as it adds
// min_gain; then solved on `data.fit`. A same-head map is preferred unless all heads are better by min_gain, because it
// costs a fraction of the multiplications.
PlaneMap fit_plane(const PlaneData& data, int target_layer, const SelectOptions& options);

// Linear CKA (Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited") of one source layer and one
// target layer: |X'Y|^2 / (|X'X| |Y'Y|), centred, Frobenius norms. `source_index` is the layer's position among the columns
// of x.
double linear_cka(const Gram& gram, const PlaneData& data, int source_index, int target_layer);

}  // namespace celslm
