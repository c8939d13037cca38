#include "serve/load/compute_alone.h"

namespace celslm {
namespace {

// From a segment of the same type and capacity.
void copy_layer(int layer, const KvSegment& from, KvSegment& to) {
  if (from.foreign()) return to.set_foreign(from.foreign());
  to.copy_layer(from, layer);
}

}  // namespace

void ComputeAlone::layer_computed(int layer, KvSegment& from, std::vector<float> /*k*/, std::vector<float> /*v*/) {
  if (!context_.study) {
    copy_layer(layer, from, *context_.segment);
  } else if (!context_.segment->replace_layer(layer, from)) {
    return;  // there is no memory for it: requests for this context go on waiting until their clients leave
  }
  context_.layer_filled(layer,
                        {.provenance = tuning_ ? Provenance::kTuned : Provenance::kNative, .source = Source::kCompute});
}

}  // namespace celslm
