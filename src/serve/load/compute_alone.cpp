#include "serve/load/compute_alone.h"

#include <cstring>

namespace celslm {
namespace {

// The layer's K and V, from a segment of the same type and capacity.
void copy_layer(int layer, KvSegment& from, KvSegment& to) {
  if (from.foreign()) return to.set_foreign(from.foreign());
  const std::size_t n_bytes = static_cast<std::size_t>(to.n_kv_heads()) * static_cast<std::size_t>(to.capacity()) *
                              row_bytes(to.type(), to.head_dim());
  std::memcpy(to.k_data(layer), from.k_data(layer), n_bytes);
  std::memcpy(to.v_data(layer), from.v_data(layer), n_bytes);
  to.note_write(layer);
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
