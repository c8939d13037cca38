// Which of the source's layers a layer of the target is made from.
#pragma once

#include <vector>

#include "align/fit/gram.h"
#include "align/map/kv_map.h"

namespace celslm {

struct SelectOptions {
  int max_sources = 4;      // 1 to kMaxMapSources
  int candidates = 8;       // of the layers that do best alone; the others are not tried together with them
  double min_gain = 0.002;  // of held-out R^2, for one more layer or for all heads instead of the same head
  double lambda = 0.01;     // relative to the mean diagonal of X'X
  int rank = 0;             // of each matrix; 0: whole
  bool all_heads = true;    // try maps from all heads
  bool same_head = true;    // try maps from head to head, where the head counts divide
};

// One K or V of the data: what both halves of the calibration texts summed up to.
struct PlaneData {
  const Gram& fit;
  const Gram& held_out;
  std::vector<int> source_layers;  // which the columns of x are, side by side
  const MapModel& source;
  const MapModel& target;
};

// Greedy forward selection by held-out R^2: the best layer alone, then whichever adds most, as long as it adds min_gain.
// Then solved on `fit`. Same-head maps win unless all heads are better by min_gain: they cost a fraction.
PlaneMap fit_plane(const PlaneData& data, int target_layer, const SelectOptions& options);

// Linear CKA (Kornblith et al. 2019) of one source layer and one target layer: |X'Y|^2 / (|X'X| |Y'Y|), centred.
double linear_cka(const Gram& gram, const PlaneData& data, int source_index, int target_layer);

}  // namespace celslm
