// The file of the keys by which clients are known (--keys): docs/trust.md has the format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "net/access/key_meter.h"

namespace celslm {

inline constexpr std::size_t kMaxKeys = 10'000;              // every request is compared with each
inline constexpr std::uint64_t kMaxKeyFileBytes = 8U << 20;  // a file given by mistake
inline constexpr std::size_t kMaxKeyNameBytes = 100;         // names are in every line of the audit log
inline constexpr std::int64_t kMaxKeyLimit = 1'000'000'000;  // a typo
inline constexpr std::size_t kMinKeyBytes = 16;              // a key that can be guessed
inline constexpr std::size_t kMaxKeyBytes = 4096;

struct AccessKey {
  std::string name;
  Hash256 hash;               // of the key
  bool is_hashed = true;      // the file has the hash, not the key
  std::string tenant;         // empty: the default one
  std::string widest_policy;  // "edge-only", "fleet", "cloud"; empty: not limited by the key
  bool is_operator = false;
  KeyLimits limits;
};

// Names of keys and tenants: letters, digits and -_.@, up to kMaxKeyNameBytes; a tenant's may be empty.
bool is_key_name(std::string_view name);

// kInvalid, naming the key and the field: malformed, unknown fields (a limit with a typo in its name would be none), names
// or keys that are there twice, too many keys.
Result<std::vector<AccessKey>> parse_keys(std::string_view json);
// The same from a file; kInvalid also for one that has keys in clear and that others may read.
Result<std::vector<AccessKey>> read_keys(const std::filesystem::path& path);

// Adds one entry (with the hash of its key), or takes out the one of this name; the rest of the file stays as it is, and the
// file becomes its owner's alone. A file that does not exist is made by the former. kInvalid if the name is taken;
// kNotFound if there is none.
Status append_key(const std::filesystem::path& path, const AccessKey& key);
Status remove_key(const std::filesystem::path& path, std::string_view name);

// A new key: 256 random bits in letters and digits. kIo if the system has no random numbers.
Result<std::string> draw_key();

}  // namespace celslm
