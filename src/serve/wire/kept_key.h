// The key of a cloud as an edge keeps it on disk.
#pragma once

#include <filesystem>
#include <vector>

#include "core/result.h"
#include "kv/pack/key_chain.h"

namespace celslm {

// A file: the key on the first line, then the links by which the edge came to it.
struct KeptKey {
  PublicKey key;
  std::vector<KeyLink> links;
};

// An edge that met each of them while it was there may keep more links than one answer has.
inline constexpr std::size_t kMaxKeptLinks = 64;

// kNotFound if the file cannot be read, kInvalid if it is no such file.
Result<KeptKey> read_kept_key(const std::filesystem::path& path);
Status write_kept_key(const std::filesystem::path& path, const KeptKey& kept);

// Where the kept links lead from a key that a person has named: that key itself, if none begins with it.
PublicKey led_on(const PublicKey& named, const KeptKey& kept);

}  // namespace celslm
