#include "serve/load/studied_layers.h"

#include <algorithm>
#include <utility>

#include "model/engine/engine.h"

namespace celslm {

StudiedLayers::StudiedLayers(const Model& model, const PackIdentity& identity, KvSegment& segment)
    : model_(model), identity_(identity), segment_(segment), layers_(identity.model.n_layers) {}

Status StudiedLayers::add(const VerifiedBlock& block) {
  const BlockRef ref = block_ref(identity_, block.index());
  std::vector<float> values;
  RowPlaces places;
  if (ref.kind == BlockKind::kPlaces) {
    CELSLM_TRY(places, decode_places(identity_, block));
  } else {
    values.resize(identity_.shape(ref.kind, ref.chunk).values());
    CELSLM_CHECK_OK(decode_block(identity_, block, values));
  }
  Layer complete;
  {
    const MutexLock lock(mutex_);
    Layer& layer = layers_[static_cast<std::size_t>(ref.layer)];
    if (layer.written) return {};
    CELSLM_CHECK_OK(collect(layer, ref, std::move(values), places));
    if (++layer.n_blocks < identity_.blocks_per_layer()) return {};
    complete = std::exchange(layer, {.written = true});
  }
  return Engine::import_condensed(model_, segment_, ref.layer, 0,
                                  {.n_rows = identity_.n_rows(),
                                   .k = complete.k,
                                   .v = complete.v,
                                   .positions = complete.places.positions,
                                   .log_mass = complete.places.log_mass});
}

Status StudiedLayers::collect(Layer& layer, const BlockRef& ref, std::vector<float> values, const RowPlaces& places) {
  const auto n_rows = static_cast<std::size_t>(identity_.n_rows());
  const auto first = static_cast<std::size_t>(ref.chunk) * static_cast<std::size_t>(identity_.block_tokens());
  if (ref.kind == BlockKind::kPlaces) {
    if (layer.places.positions.empty()) layer.places = RowPlaces(identity_.model.n_kv_heads, n_rows);
    layer.places.put(first, places, identity_.model.n_kv_heads);
    return {};
  }
  const std::size_t width = std::size_t{identity_.model.n_kv_heads} * identity_.model.head_dim;
  std::vector<float>& plane = ref.kind == BlockKind::kKey ? layer.k : layer.v;
  plane.resize(n_rows * width);
  std::ranges::copy(values, plane.begin() + static_cast<std::ptrdiff_t>(first * width));
  return {};
}

Status StudiedLayers::compute(int layer, const KvSegment& computed) {
  const MutexLock lock(mutex_);
  Layer& replaced = layers_[static_cast<std::size_t>(layer)];
  if (replaced.written) return {};
  CELSLM_CHECK_OK(segment_.replace_layer(layer, computed));
  replaced = {.written = true};
  return {};
}

}  // namespace celslm
