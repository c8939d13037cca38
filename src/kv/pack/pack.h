// KV packs: one context's KV for one edge model, as a file that any server of byte ranges can serve. This header declares
// the encoders and parsers of the format; docs/kv-pack-format.md is its specification.
//
// Everything here is thread-safe: functions of their arguments, without shared state. All parsers are safe for untrusted
// input and return kInvalid, naming the field, unless stated otherwise.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/hash.h"
#include "core/result.h"
#include "kv/codec/codec.h"
#include "kv/pack/signing.h"
#include "model/config.h"

namespace celslm {

// Limits on the fields of a header, checked before anything is allocated. Each comment names what the limit prevents.
inline constexpr std::uint32_t kMaxPackTokens = 1U << 20;       // a token count that makes us allocate gigabytes
inline constexpr std::uint32_t kMaxPackLayers = 512;            // a layer count that does, and as many runs of layers
inline constexpr int kMaxPackSplit = 255;                       // the identity has one byte for it
inline constexpr std::uint32_t kMaxPackKvWidth = 1U << 16;      // n_kv_heads * head_dim: blocks of gigabytes
inline constexpr std::uint32_t kMaxStateBytes = 64U << 20;      // of a recurrent layer: a block of gigabytes
inline constexpr std::uint32_t kMaxStateTokenBytes = 4U << 20;  // of a state of libllama: parts of gigabytes
inline constexpr std::uint32_t kMaxStateKib = 1U << 20;         // of it, whatever its tokens: the same
inline constexpr std::uint32_t kMaxArchitectureBytes = 64;      // megabytes of text in logs and error messages
inline constexpr std::uint32_t kMaxRopeBytes = 1024;            // the same
inline constexpr std::uint64_t kMaxHeaderBytes = 64ULL << 20;   // a header without end

// The format's version that this program writes. It reads version 1, too, in which K contains the model's bias.
inline constexpr std::uint16_t kPackVersion = 2;

enum class Provenance : std::uint8_t { kNative = 0, kProxy = 1, kMapped = 2, kFused = 3, kTuned = 4, kStudied = 5 };
const char* to_string(Provenance provenance);

// BLAKE3 of the tokenizer's hash and the tokens; for a tenant other than the default one, of that and the tenant's name.
Hash256 context_id(const Hash256& tokenizer, std::span<const Token> tokens, std::string_view tenant = {});

// A training of one context's KV: what it made is n_rows rows in each layer, which stand for all the context's tokens.
struct ContextStudy {
  Hash256 id;
  int n_rows = 0;
  bool operator==(const ContextStudy&) const = default;
};

// What a pack contains, known before any block is computed. Its hash is the pack's id: two nodes that derive equal
// identities may use each other's packs.
struct PackIdentity {
  Hash256 context;
  std::vector<Token> tokens;
  ModelFingerprint model;
  Provenance provenance = Provenance::kProxy;
  Hash256 map;    // id of the layer map; zero if none was used
  int split = 0;  // first mapped layer, at most kMaxPackSplit; the layers below are exact. 0 if no map was used
  CodecId codec = CodecId::kF16;
  Hash256 tuning;          // id of the constants added to K before RoPE and to V; zero unless tuned
  Hash256 study;           // id of the training that made the KV; zero unless studied
  int rows = 0;            // of a studied pack, at most as many as tokens; else 0: there is one for each token
  bool of_tenant = false;  // other than the default one: `context` cannot be checked against the tokens
  std::uint16_t version = kPackVersion;

  int n_tokens() const { return static_cast<int>(tokens.size()); }
  bool studied() const { return provenance == Provenance::kStudied; }
  // All KV is one state, which only the library can read that wrote it: model.rope names that library. model.head_dim is
  // then how many bytes a token takes, and model.n_kv_heads how many KiB there are beside, one at least.
  bool opaque() const { return codec == CodecId::kOpaque; }
  int n_rows() const { return studied() ? rows : n_tokens(); }
  int block_tokens() const;  // rows of a full chunk, which depends on the codec
  int n_chunks() const { return (n_rows() + block_tokens() - 1) / block_tokens(); }
  // Of a layer with rows: K and V; before them places, where studied. A state of libllama is one.
  int n_planes() const { return opaque() ? 1 : studied() ? 3 : 2; }
  // Of a layer with rows. A recurrent layer has one block, its state.
  int blocks_per_layer() const { return n_planes() * n_chunks(); }
  int blocks_of(int layer) const { return model.state_bytes(layer) > 0 ? 1 : blocks_per_layer(); }
  int first_block(int layer) const;  // n_blocks() for n_layers
  int n_blocks() const { return first_block(static_cast<int>(model.n_layers)); }
  BlockShape shape(BlockKind kind, int chunk) const;
  Hash256 id() const;  // hashes all tokens on every call: keep the result

  bool operator==(const PackIdentity&) const = default;
  // The first field in which the two differ, with both values; empty if equal.
  std::string difference(const PackIdentity& other) const;
};

// Turns an identity into that of KV that this study made.
void set_study(PackIdentity& identity, const ContextStudy& study);
// The same pack in version 1 of the format.
PackIdentity version_1(PackIdentity identity);
// Whether it has the same KV. key_bias: whether the model's K has a bias, which version 1 contains.
bool is_as_version_1(const PackIdentity& identity, bool key_bias);
// Whether a pack of identity `offered` has the KV of the pack that is `wanted`, of version kPackVersion: the same pack, or
// the same in version 1 if the model adds no bias to K. kMismatch, naming the first difference.
Status check_offer(const PackIdentity& wanted, const PackIdentity& offered, bool key_bias);

// Checks that a pack may have this identity: the limits above, a known codec, the context id of these tokens, the ids of a
// map, a tuning and a study exactly if the provenance requires them, rows exactly if it is studied, and none that its
// version does not know. kInvalid, naming the field. A precondition of everything below that takes an identity.
Status check_identity(const PackIdentity& identity);

// A block is one chunk of K or V of one layer or, in studied packs, of the places of its rows; or a recurrent layer's state.
// Blocks are numbered by layer, then places before K before V (K cannot be used without places), then chunk.
struct BlockRef {
  int layer = 0;
  BlockKind kind = BlockKind::kKey;
  int chunk = 0;
  bool operator==(const BlockRef&) const = default;
};
int block_index(const PackIdentity& identity, const BlockRef& ref);
BlockRef block_ref(const PackIdentity& identity, int index);
std::string describe(const BlockRef& ref);  // "layer 3 K chunk 1"

struct BlockEntry {
  std::uint64_t offset = 0;  // from the start of the block region
  std::uint32_t bytes = 0;
  Hash256 hash;
  bool operator==(const BlockEntry&) const = default;
};

// Bounds that follow from the identity alone, before any block is computed. Blocks are adjacent, so with a codec of fixed
// length minimum and maximum are equal.
ByteBounds block_bytes(const PackIdentity& identity, int index);
ByteBounds block_offset(const PackIdentity& identity, int index);  // from the start of the block region
ByteBounds block_region_bytes(const PackIdentity& identity);
// kInvalid, naming the field, if the entry's offset or length is outside these bounds.
Status check_bounds(const PackIdentity& identity, int index, const BlockEntry& entry);
// The entry of an encoded block at `offset`, which must be the end of the block before.
BlockEntry make_entry(std::uint64_t offset, ByteView bytes);

struct PackHeader {
  PackIdentity identity;
  std::vector<BlockEntry> blocks;  // n_blocks() of them
  PublicKey signer;                // as stored in the header: untrusted until compared with a trusted key
  Signature signature{};

  std::uint64_t block_region_bytes() const { return blocks.back().offset + blocks.back().bytes; }
};

// Encodes and signs the complete header, as stored at the start of the file. `blocks` has identity.n_blocks() entries.
Bytes encode_header(const PackIdentity& identity, std::span<const BlockEntry> blocks, const SigningKey& key);
std::uint64_t header_bytes(const PackIdentity& identity);  // size of encode_header's result

// Checks everything that can be checked without the blocks: sizes, order, overlap, ids, signature. kMismatch if the
// signature is not a valid one by `signer`.
Result<PackHeader> parse_header(ByteView bytes, const PublicKey& signer);
// The same without checking the signature, for tools that only display packs.
Result<PackHeader> parse_header_unverified(ByteView bytes);
// The size of the header in bytes, from its first kHeaderPrefixBytes.
inline constexpr std::size_t kHeaderPrefixBytes = 24;
Result<std::uint64_t> peek_header_bytes(ByteView prefix);

// Announces one block while the rest of the pack is still being computed: its entry, signed separately. The signature covers
// (pack id, index, entry), so that it cannot be replayed for another pack or block.
struct SignedEntry {
  std::uint32_t index = 0;
  BlockEntry entry;
  Signature signature{};
};
inline constexpr std::size_t kSignedEntryBytes = 4 + 8 + 4 + 32 + 64;
SignedEntry sign_entry(const Hash256& pack_id, std::uint32_t index, const BlockEntry& entry, const SigningKey& key);
Bytes encode_entry(const SignedEntry& entry);
// kInvalid if the identity does not allow the entry; kMismatch if `signer` did not sign it for this pack.
Result<SignedEntry> parse_entry(ByteView bytes, const PackIdentity& identity, const PublicKey& signer);
// The same for callers that have stored identity.id().
Result<SignedEntry> parse_entry(ByteView bytes, const PackIdentity& identity, const Hash256& pack_id,
                                const PublicKey& signer);

// The signed identity without a block table: the first record that a cloud sends for a pack that it is still computing.
// parse_preamble: kMismatch if the signature is not a valid one by `signer`.
Bytes encode_preamble(const PackIdentity& identity, const SigningKey& key);
Result<PackIdentity> parse_preamble(ByteView bytes, const PublicKey& signer);

}  // namespace celslm
