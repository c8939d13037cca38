// The bytes of the format's records, shared by the files that write and read them. Internal to kv.
#pragma once

#include "core/bytes.h"
#include "kv/pack/pack.h"

namespace celslm {

inline constexpr std::size_t kIdentityFixedBytes = 152;  // before the texts
inline constexpr std::size_t kTableEntryBytes = 44;
inline constexpr std::size_t kIdentityOffset = kHeaderPrefixBytes + 32 + 32;  // prefix, pack id, signer

void write_identity(const PackIdentity& identity, ByteWriter& out);
std::size_t identity_bytes(const PackIdentity& identity);
Hash256 pack_id_of(ByteView identity);  // from its encoded bytes

}  // namespace celslm
