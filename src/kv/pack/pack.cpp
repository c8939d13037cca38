#include "kv/pack/pack.h"

#include <fmt/format.h>

#include <algorithm>

#include "kv/pack/pack_layout.h"

namespace celslm {
namespace {

constexpr std::string_view kMagic = "CELSLMKV";

enum class Kind : std::uint16_t { kHeader = 1, kPreamble = 2 };

// Domain separation: a signed message begins with its type, so that no signature is valid for a message of another type.
constexpr std::string_view kHeaderDomain = "celslm.pack.header.";
constexpr std::string_view kPreambleDomain = "celslm.pack.preamble.";
constexpr std::string_view kEntryDomain = "celslm.pack.entry.";

std::string_view domain(Kind kind) {
  return kind == Kind::kHeader ? kHeaderDomain : kPreambleDomain;
}

Bytes signed_message(Kind kind, ByteView content) {
  ByteWriter out;
  out.bytes(as_bytes(domain(kind)));
  out.bytes(view(hash_of(content).bytes));
  return out.take();
}

void write_entry(const BlockEntry& entry, ByteWriter& out) {
  out.u64(entry.offset);
  out.u32(entry.bytes);
  out.bytes(view(entry.hash.bytes));
}

BlockEntry read_entry(ByteReader& in) {
  BlockEntry entry;
  entry.offset = in.u64();
  entry.bytes = in.u32();
  entry.hash = read_hash(in);
  return entry;
}

std::uint64_t table_bytes(const PackIdentity& identity) {
  return static_cast<std::uint64_t>(identity.n_blocks()) * kTableEntryBytes;
}

// The fields that header and preamble begin with: prefix, pack id, signer, identity. total_bytes includes the signature.
void write_common_fields(Kind kind, const PackIdentity& identity, std::uint64_t total_bytes, const PublicKey& signer,
                         ByteWriter& out) {
  ByteWriter encoded;
  write_identity(identity, encoded);
  out.bytes(as_bytes(kMagic));
  out.u16(identity.version);
  out.u16(static_cast<std::uint16_t>(kind));
  out.u32(static_cast<std::uint32_t>(encoded.data().size()));
  out.u64(total_bytes);
  out.bytes(view(pack_id_of(encoded.data(), identity.version).bytes));
  out.bytes(view(signer.bytes));
  out.bytes(encoded.data());
}

Bytes finish(Kind kind, ByteWriter out, const SigningKey& key) {
  out.bytes(view(key.sign(signed_message(kind, out.data()))));
  return out.take();
}

struct Prefix {
  std::uint16_t version = 0;
  std::uint32_t identity_bytes = 0;
  std::uint64_t total_bytes = 0;
};

Result<Prefix> read_prefix(ByteView bytes, Kind expected) {
  ByteReader in(bytes);
  const ByteView magic = in.bytes(kMagic.size());
  const std::uint16_t version = in.u16();
  const std::uint16_t kind = in.u16();
  const Prefix prefix{.version = version, .identity_bytes = in.u32(), .total_bytes = in.u64()};
  if (!in.ok()) return fail(ErrorKind::kInvalid, "{} bytes are too few for the header of a KV pack", bytes.size());
  if (as_text(magic) != kMagic) return fail(ErrorKind::kInvalid, "not a KV pack: it must begin with {}", kMagic);
  if (version < 1 || version > kPackVersion) {
    return fail(ErrorKind::kInvalid, "version is {}; this program reads versions 1 to {}: update the older side", version,
                kPackVersion);
  }
  if (kind != static_cast<std::uint16_t>(expected)) {
    return fail(ErrorKind::kInvalid, "kind is {}; expected {}", kind, static_cast<int>(expected));
  }
  if (prefix.total_bytes > kMaxHeaderBytes) {
    return fail(ErrorKind::kInvalid, "header_bytes is {}; at most {} are allowed", prefix.total_bytes, kMaxHeaderBytes);
  }
  if (prefix.total_bytes < kIdentityOffset + kLeastIdentityBytes + sizeof(Signature)) {
    return fail(ErrorKind::kInvalid, "header_bytes is {}; too few for an identity and a signature", prefix.total_bytes);
  }
  if (prefix.identity_bytes > prefix.total_bytes - kIdentityOffset - sizeof(Signature)) {
    return fail(ErrorKind::kInvalid, "identity_bytes is {}, which exceeds the header", prefix.identity_bytes);
  }
  return prefix;
}

struct CommonFields {
  PackIdentity identity;
  PublicKey signer;
};

// Reads up to the end of the identity. `bytes` must be the complete record.
Result<CommonFields> read_common_fields(ByteView bytes, Kind kind, ByteReader& in) {
  CELSLM_TRY(const Prefix prefix, read_prefix(bytes, kind));
  if (bytes.size() != prefix.total_bytes) {
    return fail(ErrorKind::kInvalid, "header_bytes is {}, but {} were given", prefix.total_bytes, bytes.size());
  }
  in.bytes(kHeaderPrefixBytes);
  const Hash256 pack_id = read_hash(in);
  const PublicKey signer{read_array<32>(in)};
  const ByteView encoded = in.bytes(prefix.identity_bytes);
  CELSLM_TRY(PackIdentity identity, read_identity(encoded, prefix.version));
  if (pack_id != pack_id_of(encoded, prefix.version)) {
    return fail(ErrorKind::kInvalid, "pack id is {}, but the identity has another", pack_id.hex());
  }
  return CommonFields{std::move(identity), signer};
}

Status check_signature(ByteView bytes, Kind kind, const PublicKey& claimed, const Signature& signature,
                       const PublicKey& signer) {
  if (claimed != signer) {
    return fail(ErrorKind::kMismatch, "signed by {}, but the trusted key is {}", claimed.hex(), signer.hex());
  }
  if (verify(signer, signed_message(kind, bytes.first(bytes.size() - signature.size())), signature)) return {};
  return fail(ErrorKind::kMismatch, "the signature was not made by {}", signer.hex());
}

Bytes entry_message(const Hash256& pack_id, std::uint32_t index, const BlockEntry& entry) {
  ByteWriter out;
  out.bytes(as_bytes(kEntryDomain));
  out.bytes(view(pack_id.bytes));
  out.u32(index);
  write_entry(entry, out);
  return out.take();
}

}  // namespace

std::uint64_t header_bytes(const PackIdentity& identity) {
  return kIdentityOffset + identity_bytes(identity) + table_bytes(identity) + sizeof(Signature);
}

Bytes encode_header(const PackIdentity& identity, std::span<const BlockEntry> blocks, const SigningKey& key) {
  ByteWriter out;
  write_common_fields(Kind::kHeader, identity, header_bytes(identity), key.public_key(), out);
  for (const BlockEntry& entry : blocks) write_entry(entry, out);
  return finish(Kind::kHeader, std::move(out), key);
}

Result<std::uint64_t> peek_header_bytes(ByteView prefix) {
  CELSLM_TRY(const Prefix read, read_prefix(prefix, Kind::kHeader));
  return read.total_bytes;
}

Result<PackHeader> parse_header_unverified(ByteView bytes) {
  ByteReader in(bytes);
  CELSLM_TRY(CommonFields common, read_common_fields(bytes, Kind::kHeader, in));
  const PackIdentity& identity = common.identity;
  if (in.remaining() != table_bytes(identity) + sizeof(Signature)) {
    return fail(ErrorKind::kInvalid, "header_bytes is {}, but the identity requires {}", bytes.size(),
                header_bytes(identity));
  }
  std::vector<BlockEntry> blocks;
  blocks.reserve(static_cast<std::size_t>(identity.n_blocks()));
  std::uint64_t end = 0;
  for (int i = 0; i < identity.n_blocks(); ++i) {
    blocks.push_back(read_entry(in));
    const BlockEntry& entry = blocks.back();
    CELSLM_CHECK_OK(check_bounds(identity, i, entry));
    if (entry.offset != end) return fail(ErrorKind::kInvalid, "block {}: offset is {}; expected {}", i, entry.offset, end);
    end += entry.bytes;
  }
  return PackHeader{std::move(common.identity), std::move(blocks), common.signer, read_array<64>(in)};
}

Result<PackHeader> parse_header(ByteView bytes, const PublicKey& signer) {
  CELSLM_TRY(PackHeader header, parse_header_unverified(bytes));
  CELSLM_CHECK_OK(check_signature(bytes, Kind::kHeader, header.signer, header.signature, signer));
  return header;
}

SignedEntry sign_entry(const Hash256& pack_id, std::uint32_t index, const BlockEntry& entry, const SigningKey& key) {
  return {.index = index, .entry = entry, .signature = key.sign(entry_message(pack_id, index, entry))};
}

Bytes encode_entry(const SignedEntry& entry) {
  ByteWriter out;
  out.u32(entry.index);
  write_entry(entry.entry, out);
  out.bytes(view(entry.signature));
  return out.take();
}

Result<SignedEntry> parse_entry(ByteView bytes, const PackIdentity& identity, const PublicKey& signer) {
  return parse_entry(bytes, identity, identity.id(), signer);
}

Result<SignedEntry> parse_entry(ByteView bytes, const PackIdentity& identity, const Hash256& pack_id,
                                const PublicKey& signer) {
  if (bytes.size() != kSignedEntryBytes) {
    return fail(ErrorKind::kInvalid, "a signed entry has {} bytes; got {}", kSignedEntryBytes, bytes.size());
  }
  ByteReader in(bytes);
  SignedEntry out;
  out.index = in.u32();
  out.entry = read_entry(in);
  out.signature = read_array<64>(in);
  if (out.index >= static_cast<std::uint32_t>(identity.n_blocks())) {
    return fail(ErrorKind::kInvalid, "index is {}, but the pack has {} blocks", out.index, identity.n_blocks());
  }
  CELSLM_CHECK_OK(check_bounds(identity, static_cast<int>(out.index), out.entry));
  if (!verify(signer, entry_message(pack_id, out.index, out.entry), out.signature)) {
    return fail(ErrorKind::kMismatch, "entry {} is not signed by {} for pack {}", out.index, signer.hex(), pack_id.hex());
  }
  return out;
}

Bytes encode_preamble(const PackIdentity& identity, const SigningKey& key) {
  ByteWriter out;
  const std::uint64_t total = kIdentityOffset + identity_bytes(identity) + sizeof(Signature);
  write_common_fields(Kind::kPreamble, identity, total, key.public_key(), out);
  return finish(Kind::kPreamble, std::move(out), key);
}

Result<PackIdentity> parse_preamble(ByteView bytes, const PublicKey& signer) {
  ByteReader in(bytes);
  CELSLM_TRY(CommonFields common, read_common_fields(bytes, Kind::kPreamble, in));
  if (in.remaining() != sizeof(Signature)) {
    return fail(ErrorKind::kInvalid, "{} bytes follow the preamble's identity; expected a signature of {}", in.remaining(),
                sizeof(Signature));
  }
  const Signature signature = read_array<64>(in);
  CELSLM_CHECK_OK(check_signature(bytes, Kind::kPreamble, common.signer, signature, signer));
  return std::move(common.identity);
}

}  // namespace celslm
