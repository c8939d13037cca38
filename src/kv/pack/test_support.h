// Shared by the tests and fuzz targets of packs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "kv/pack/layer_state.h"
#include "kv/pack/pack.h"
#include "kv/pack/places.h"

namespace celslm::testing_support {

// A small, valid identity: 3 layers, 2 chunks (the second one short), a head_dim that is not a power of two.
inline PackIdentity small_identity(CodecId codec = CodecId::kF16, int n_tokens = 300) {
  PackIdentity out;
  out.model = {.architecture = "qwen2",
               .n_layers = 3,
               .n_kv_heads = 2,
               .head_dim = 20,
               .rope = "neox 20 1000000",
               .weights = hash_of("weights"),
               .tokenizer = hash_of("tokenizer")};
  for (int i = 0; i < n_tokens; ++i) out.tokens.push_back(i * 7 % 1000);
  out.context = context_id(out.model.tokenizer, out.tokens);
  out.codec = codec;
  return out;
}

// The same, studied: fewer rows than tokens.
inline PackIdentity studied_identity(int n_rows, CodecId codec = CodecId::kF16, int n_tokens = 300) {
  PackIdentity out = small_identity(codec, n_tokens);
  set_study(out, {.id = hash_of("study"), .n_rows = n_rows});
  return out;
}

// The same of a model with recurrent layers: layers 0, 1 and 3 of 5 keep a state of 24 bytes.
inline PackIdentity hybrid_identity(CodecId codec = CodecId::kF16, int n_tokens = 300) {
  PackIdentity out = small_identity(codec, n_tokens);
  out.model.n_layers = 5;
  out.model.states = {24, 24, 0, 24, 0};
  return out;
}

// Where a studied pack's rows of one chunk stand: valid, and different for each head.
inline RowPlaces some_places(const PackIdentity& identity, int chunk) {
  const auto n = static_cast<std::size_t>(identity.shape(BlockKind::kPlaces, chunk).n_tokens);
  RowPlaces out(identity.model.n_kv_heads, n);
  for (std::size_t i = 0; i < out.positions.size(); ++i) {
    out.positions[i] = static_cast<std::int32_t>(i * 37) % identity.n_tokens();
    out.log_mass[i] = static_cast<float>(i % 7) * 0.25F - 0.5F;
  }
  return out;
}

// Values distributed like KV: mostly small, of both signs, occasionally large. Depends only on the seed.
inline std::vector<float> kv_values(std::size_t n, std::uint64_t seed = 1) {
  std::vector<float> out(n);
  for (float& value : out) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    const auto unit = static_cast<float>(static_cast<std::int32_t>(seed >> 32)) * 0x1p-31F;  // -1..1
    value = unit * unit * unit * 8.0F;
  }
  return out;
}

struct BuiltPack {
  PackIdentity identity;
  std::vector<Bytes> blocks;
  std::vector<BlockEntry> entries;
  Bytes header;

  VerifiedBlock checked(int index) const {  // what was not changed since
    const auto i = static_cast<std::size_t>(index);
    return VerifiedBlock::check(index, entries[i], blocks[i]).value();
  }
  Bytes file() const {
    Bytes out = header;
    for (const Bytes& block : blocks) out.insert(out.end(), block.begin(), block.end());
    return out;
  }
};

// Requires a valid identity and codec; value() throws otherwise.
inline BuiltPack build_pack(const PackIdentity& identity, const SigningKey& key) {
  BuiltPack out{.identity = identity};
  const Codec& codec = *find_codec(identity.codec).value();
  std::uint64_t offset = 0;
  for (int i = 0; i < identity.n_blocks(); ++i) {
    const BlockRef ref = block_ref(identity, i);
    const auto seed = static_cast<std::uint64_t>(i) + 1;
    if (ref.kind == BlockKind::kLayerState) {
      out.blocks.push_back(encode_layer_state(kv_values(identity.model.state_bytes(ref.layer) / sizeof(float), seed)));
    } else if (ref.kind == BlockKind::kPlaces) {
      out.blocks.push_back(encode_places(some_places(identity, ref.chunk)));
    } else {
      const BlockShape shape = identity.shape(ref.kind, ref.chunk);
      out.blocks.push_back(codec.encode(shape, kv_values(shape.values(), seed)).value());
    }
    out.entries.push_back(make_entry(offset, out.blocks.back()));
    offset += out.blocks.back().size();
  }
  out.header = encode_header(identity, out.entries, key);
  return out;
}

}  // namespace celslm::testing_support
