// KV packs: one context's KV for one edge model, as a file that any byte-range server can serve.
// docs/kv-pack-format.md is the specification; this header is its C++ face.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/hash.h"
#include "core/result.h"
#include "kv/codec/codec.h"
#include "kv/pack/signing.h"
#include "model/config.h"

namespace celslm {

// Limits on what a header may say, checked before anything is allocated.
inline constexpr std::uint32_t kMaxPackTokens = 1U << 20;      // a token count that would make us allocate gigabytes
inline constexpr std::uint32_t kMaxPackLayers = 512;           // the same, per layer
inline constexpr int kMaxPackSplit = 255;                      // what the identity's byte holds
inline constexpr std::uint32_t kMaxPackKvWidth = 1U << 16;     // n_kv_heads * head_dim: the same, per block
inline constexpr std::uint32_t kMaxArchitectureBytes = 64;     // megabytes of text in logs and error messages
inline constexpr std::uint32_t kMaxRopeBytes = 1024;           // the same
inline constexpr std::uint64_t kMaxHeaderBytes = 64ULL << 20;  // a header that never ends

enum class Provenance : std::uint8_t { kNative = 0, kProxy = 1, kMapped = 2, kFused = 3 };
const char* to_string(Provenance provenance);

Hash256 context_id(const Hash256& tokenizer, std::span<const Token> tokens);

// What a pack is of. Known before any block is computed; its hash names the pack.
struct PackIdentity {
  Hash256 context;
  std::vector<Token> tokens;
  ModelFingerprint model;
  Provenance provenance = Provenance::kProxy;
  Hash256 map;    // of the layer map; zero where none was used
  int split = 0;  // first layer that was mapped, up to kMaxPackSplit; those below are exact. 0 where there is no map
  CodecId codec = CodecId::kF16;

  int n_tokens() const { return static_cast<int>(tokens.size()); }
  int block_tokens() const;  // of the codec; a chunk is that many tokens
  int n_chunks() const { return (n_tokens() + block_tokens() - 1) / block_tokens(); }
  int n_blocks() const { return static_cast<int>(model.n_layers) * 2 * n_chunks(); }
  BlockShape shape(BlockKind kind, int chunk) const;
  Hash256 id() const;  // hashes all tokens: keep it rather than ask again

  bool operator==(const PackIdentity&) const = default;
  // The first field in which the two differ, with both values; empty if equal.
  std::string difference(const PackIdentity& other) const;
};

// Whether a pack may have this identity: all limits above, a known codec, a context id that is that of the tokens, a map
// exactly where the provenance has one. Everything below takes identities for which this holds.
Status check_identity(const PackIdentity& identity);

// Blocks are numbered layer by layer, K before V, chunk by chunk.
struct BlockRef {
  int layer = 0;
  BlockKind kind = BlockKind::kKey;
  int chunk = 0;
  bool operator==(const BlockRef&) const = default;
};
int block_index(const PackIdentity& identity, const BlockRef& ref);
BlockRef block_ref(const PackIdentity& identity, int index);

struct BlockEntry {
  std::uint64_t offset = 0;  // from the start of the block region
  std::uint32_t bytes = 0;
  Hash256 hash;
  bool operator==(const BlockEntry&) const = default;
};

// What the identity alone says about a block's place, before any block is computed. Blocks lie side by side, so for codecs
// of fixed length these bounds are single numbers.
ByteBounds block_bytes(const PackIdentity& identity, int index);
ByteBounds block_offset(const PackIdentity& identity, int index);  // from the start of the block region
ByteBounds block_region_bytes(const PackIdentity& identity);
// Whether a block may lie there: kInvalid naming the field.
Status check_place(const PackIdentity& identity, int index, const BlockEntry& entry);
// The entry of an encoded block that begins where the one before it ended.
BlockEntry make_entry(std::uint64_t offset, ByteView bytes);

struct PackHeader {
  PackIdentity identity;
  std::vector<BlockEntry> blocks;  // n_blocks() of them
  PublicKey signer;                // as the header says; worth something only once it was compared with a trusted key
  Signature signature{};

  std::uint64_t block_region_bytes() const { return blocks.back().offset + blocks.back().bytes; }
};

// The whole header as stored at the start of the file; signs it.
Bytes encode_header(const PackIdentity& identity, std::span<const BlockEntry> blocks, const SigningKey& key);
std::uint64_t header_bytes(const PackIdentity& identity);  // of encode_header's result

// Parses and checks everything that can be checked without the blocks: sizes, order, overlap, ids, signature.
// kInvalid names the field; kMismatch for a signature that is not `signer`'s.
Result<PackHeader> parse_header(ByteView bytes, const PublicKey& signer);
// The same without the signature: for tools that only look.
Result<PackHeader> parse_header_unverified(ByteView bytes);
// How many bytes the header needs, from its first kHeaderPrefixBytes.
inline constexpr std::size_t kHeaderPrefixBytes = 24;
Result<std::uint64_t> peek_header_bytes(ByteView prefix);

// A block announced while the pack is still being computed: its entry with a signature of its own over (pack id, index,
// entry).
struct SignedEntry {
  std::uint32_t index = 0;
  BlockEntry entry;
  Signature signature{};
};
inline constexpr std::size_t kSignedEntryBytes = 4 + 8 + 4 + 32 + 64;
SignedEntry sign_entry(const Hash256& pack_id, std::uint32_t index, const BlockEntry& entry, const SigningKey& key);
Bytes encode_entry(const SignedEntry& entry);
// kInvalid for an entry that the identity does not allow; kMismatch for one that `signer` did not sign for this pack.
Result<SignedEntry> parse_entry(ByteView bytes, const PackIdentity& identity, const PublicKey& signer);
// The same, for a caller that has kept identity.id().
Result<SignedEntry> parse_entry(ByteView bytes, const PackIdentity& identity, const Hash256& pack_id,
                                const PublicKey& signer);

// The identity alone, signed: what a cloud sends first while it is still computing.
Bytes encode_preamble(const PackIdentity& identity, const SigningKey& key);
Result<PackIdentity> parse_preamble(ByteView bytes, const PublicKey& signer);

// Whether bytes are the block that `entry` announces: kInvalid for another length, kMismatch for another hash.
Status check_block(const BlockEntry& entry, ByteView bytes);
// The same, then decodes them into [n_tokens][n_kv_heads][head_dim].
Status decode_block(const PackIdentity& identity, const BlockRef& ref, const BlockEntry& entry, ByteView bytes,
                    std::span<float> values);

}  // namespace celslm
