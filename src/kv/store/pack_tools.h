// Packs made from packs, and compared with each other: what `celslm pack convert` and `celslm pack diff` do.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/result.h"
#include "kv/codec/codec.h"
#include "kv/pack/signing.h"
#include "kv/store/pack_store.h"

namespace celslm {

// All of one layer's K (before RoPE) or V, [n_tokens][n_kv_heads][head_dim]. kMismatch, kInvalid for damaged blocks.
Result<std::vector<float>> read_plane(const StoredPack& pack, int layer, BlockKind kind);

// Writes the pack that `from` would have been with another codec, signed with `key`, to `path`; returns its bytes. kInvalid
// unless `from` holds exact f16 and `to` is approximate: what a codec lost is not to be had again, and a name promises how
// KV was rounded. kMismatch, kInvalid for damaged blocks; kIo.
Result<std::uint64_t> convert_pack(const StoredPack& from, const Codec& to, const SigningKey& key,
                                   const std::filesystem::path& path);

struct PackDifference {
  bool same_values = false;
  std::string text;  // lines for people: fields of the identities that differ, then each layer's K and V
};

// Compares what two packs decode to. An error where one of them is damaged, or where they are of different tokens or shapes.
Result<PackDifference> compare_packs(const StoredPack& a, const StoredPack& b);

}  // namespace celslm
