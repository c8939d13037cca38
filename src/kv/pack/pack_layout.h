// Encoding of the format's records, shared by its writer and parser. Internal to kv/pack.
#pragma once

#include <array>
#include <cstring>

#include "core/bytes.h"
#include "core/hash.h"
#include "core/result.h"
#include "kv/pack/pack.h"

namespace celslm {

inline constexpr std::size_t kLeastIdentityBytes = 152;  // of any version
inline constexpr std::size_t kTableEntryBytes = 44;
inline constexpr std::size_t kIdentityOffset = kHeaderPrefixBytes + 32 + 32;  // prefix, pack id, signer

// Of layers that keep one row of K and V a token, or a state.
enum class LayerKind : std::uint8_t { kAttention = 0, kState = 1 };

// identity_layout.cpp: both versions, by identity.version.
// Bytes before what varies in length: the runs of layers, in version 1 the texts. The last four are n_tokens.
constexpr std::size_t fixed_identity_bytes(std::uint16_t version) {
  return version == 1 ? 152 : 212;
}
void write_identity(const PackIdentity& identity, ByteWriter& out);
std::size_t identity_bytes(const PackIdentity& identity);
Hash256 pack_id_of(ByteView identity, std::uint16_t version);  // of an encoded identity
// kInvalid, naming the field, for what is out of bounds and for what this program does not support.
Result<PackIdentity> read_identity(ByteView bytes, std::uint16_t version);

// kInvalid unless 1 <= value <= limit.
Status check_number(const char* field, std::uint64_t value, std::uint64_t limit);

template <std::size_t N>
ByteView view(const std::array<std::uint8_t, N>& array) {
  return std::as_bytes(std::span(array));
}
template <std::size_t N>
std::array<std::uint8_t, N> read_array(ByteReader& in) {
  std::array<std::uint8_t, N> out{};
  if (const ByteView raw = in.bytes(N); !raw.empty()) std::memcpy(out.data(), raw.data(), N);
  return out;
}
inline Hash256 read_hash(ByteReader& in) {
  return {read_array<32>(in)};
}

}  // namespace celslm
