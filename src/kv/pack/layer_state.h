// The state of a recurrent layer behind a context's last token, as a block of a pack.
#pragma once

#include <span>
#include <vector>

#include "core/bytes.h"
#include "core/result.h"
#include "kv/pack/verified_block.h"

namespace celslm {

// Its values as f32, little-endian, in the order of the architecture, whatever the pack's codec.
Bytes encode_layer_state(std::span<const float> state);
// kInvalid, naming the block, for one that is no state, of another length than the identity's, or with infinity or NaN.
Result<std::vector<float>> decode_layer_state(const PackIdentity& identity, const VerifiedBlock& block);

}  // namespace celslm
