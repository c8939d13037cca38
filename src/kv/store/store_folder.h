// The folder of a PackStore: its marker, its lock and its files. Internal to kv/store.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace celslm {

inline constexpr std::string_view kPackSuffix = ".kvpack";
inline constexpr std::string_view kBadSuffix = ".bad";
inline constexpr std::string_view kPartSuffix = ".part";

// Creates the folder and its marker if needed. Safe if other processes do so at the same time. Errors of PackStore::open.
Status claim_folder(const std::filesystem::path& folder);

// An exclusive lock among processes and threads (flock on the marker). Released on destruction, and by the system if the
// process dies.
class FolderLock {
 public:
  static Result<FolderLock> acquire(const std::filesystem::path& folder);  // blocks; kIo
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FolderLock& operator=(FolderLock&&) = delete;

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  int fd_;
};

struct FolderFile {
  enum class Kind { kBad, kPart, kPack, kUnfinished };
  Kind kind = Kind::kPack;
  std::filesystem::path path;
  std::uint64_t bytes = 0;
  std::filesystem::file_time_type used;
};
// The store's files in the order of eviction: damaged packs and parts first, then packs, each by last use. Files that do not
// belong to the store are omitted.
std::vector<FolderFile> list_folder(const std::filesystem::path& folder);

}  // namespace celslm
