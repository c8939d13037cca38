// Encoding of the format's records, shared by its writer and parser. Internal to kv/pack.
#pragma once

#include "core/bytes.h"
#include "kv/pack/pack.h"

namespace celslm {

inline constexpr std::size_t kIdentityFixedBytes = 152;  // before the strings
inline constexpr std::size_t kTableEntryBytes = 44;
inline constexpr std::size_t kIdentityOffset = kHeaderPrefixBytes + 32 + 32;  // prefix, pack id, signer

void write_identity(const PackIdentity& identity, ByteWriter& out);
std::size_t identity_bytes(const PackIdentity& identity);
Hash256 pack_id_of(ByteView identity);  // of an encoded identity

}  // namespace celslm
