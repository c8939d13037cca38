#include "serve/load/block_import.h"

#include <cstring>
#include <memory>
#include <vector>

#include "kv/pack/layer_state.h"
#include "model/engine/engine.h"

namespace celslm {

Status import_block(const Model& model, const PackIdentity& identity, const VerifiedBlock& block, KvSegment& segment) {
  const BlockRef ref = block_ref(identity, block.index());
  if (ref.kind == BlockKind::kLayerState) {
    CELSLM_TRY(const std::vector<float> state, decode_layer_state(identity, block));
    return Engine::import_state(model, segment, ref.layer, identity.n_tokens(), state);
  }
  const BlockShape shape = identity.shape(ref.kind, ref.chunk);
  const auto memory = std::make_unique_for_overwrite<float[]>(shape.values());
  const std::span<float> values(memory.get(), shape.values());
  CELSLM_CHECK_OK(decode_block(identity, block, values));
  const bool key = ref.kind == BlockKind::kKey;
  return Engine::import_rows(model, segment, ref.layer, ref.chunk * identity.block_tokens(), shape.n_tokens,
                             key ? std::span<const float>(values) : std::span<const float>(),
                             key ? std::span<const float>() : std::span<const float>(values));
}

void copy_block(const PackIdentity& identity, int index, KvSegment& from, KvSegment& to) {
  const BlockRef ref = block_ref(identity, index);
  if (ref.kind == BlockKind::kLayerState) return to.copy_layer(from, ref.layer);
  const bool key = ref.kind == BlockKind::kKey;
  const auto* source = static_cast<const std::byte*>(key ? from.k_data(ref.layer) : from.v_data(ref.layer));
  auto* target = static_cast<std::byte*>(key ? to.k_data(ref.layer) : to.v_data(ref.layer));
  const std::size_t row = row_bytes(to.type(), to.head_dim());
  const std::size_t n_bytes = static_cast<std::size_t>(identity.shape(ref.kind, ref.chunk).n_tokens) * row;
  for (int head = 0; head < to.n_kv_heads(); ++head) {
    const std::size_t begin = static_cast<std::size_t>(head) * static_cast<std::size_t>(to.capacity()) +
                              static_cast<std::size_t>(ref.chunk * identity.block_tokens());
    std::memcpy(target + begin * row, source + begin * row, n_bytes);
  }
  to.note_write(ref.layer);
}

}  // namespace celslm
