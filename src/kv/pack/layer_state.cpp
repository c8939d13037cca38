#include "kv/pack/layer_state.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace celslm {

static_assert(std::endian::native == std::endian::little);

Bytes encode_layer_state(std::span<const float> state) {
  const auto bytes = std::as_bytes(state);
  return {bytes.begin(), bytes.end()};
}

Result<std::vector<float>> decode_layer_state(const PackIdentity& identity, const VerifiedBlock& block) {
  const BlockRef ref = block_ref(identity, block.index());
  const ByteView bytes = block.bytes();
  if (ref.kind != BlockKind::kLayerState) return fail(ErrorKind::kInvalid, "{} is no state", describe(ref));
  if (bytes.size() != identity.model.state_bytes(ref.layer))
    return fail(ErrorKind::kInvalid, "{} has {} bytes; expected {}", describe(ref), bytes.size(),
                identity.model.state_bytes(ref.layer));
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), out.size() * sizeof(float));
  if (std::ranges::all_of(out, [](float value) { return std::isfinite(value); })) return out;
  return fail(ErrorKind::kInvalid, "{} holds infinity or NaN", describe(ref));
}

}  // namespace celslm
