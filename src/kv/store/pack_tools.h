// Converts and compares packs, for `celslm pack convert` and `celslm pack diff`.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/result.h"
#include "kv/codec/codec.h"
#include "kv/pack/places.h"
#include "kv/pack/signing.h"
#include "kv/store/pack_store.h"

namespace celslm {

// K (before RoPE) or V of one layer, decoded: [n_tokens][n_kv_heads][head_dim]. kMismatch, kInvalid for damaged blocks.
Result<std::vector<float>> read_plane(const StoredPack& pack, int layer, BlockKind kind);

// Of a studied pack: [n_kv_heads][n_rows] of one layer. The same errors.
Result<RowPlaces> read_places(const StoredPack& pack, int layer);

// Encodes `from` with another codec, signs the result with `key` and writes it to `path`. Returns the size of the new file
// in bytes. kInvalid unless `from` is exact for f16 and `to` is so or approximate, since a pack's id promises how its KV was
// rounded, and an approximate codec's loss cannot be undone. kMismatch, kInvalid for damaged blocks; kIo.
Result<std::uint64_t> convert_pack(const StoredPack& from, const Codec& to, const SigningKey& key,
                                   const std::filesystem::path& path);

struct PackDifference {
  bool same_values = false;
  std::string text;  // human-readable: fields of the identities that differ, then each layer's K and V
};

// Compares the decoded values of two packs. kInvalid, kMismatch if a pack is damaged, or if they have different tokens or
// shapes.
Result<PackDifference> compare_packs(const StoredPack& a, const StoredPack& b);

// The state of a recurrent layer. Errors of decode_layer_state() and of reading.
Result<std::vector<float>> read_layer_state(const StoredPack& pack, int layer);

}  // namespace celslm
