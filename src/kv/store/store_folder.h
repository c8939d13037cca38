// The folder behind a PackStore: whose it is, what is in it, who may change it. Internal to kv.
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

// Makes the folder and its marker; fine if another process does so at the same time. Errors as PackStore::open.
Status claim_folder(const std::filesystem::path& folder);

// Exclusive among all processes and threads that take one; released on destruction, and by the system if the process dies.
class FolderLock {
 public:
  static Result<FolderLock> take(const std::filesystem::path& folder);  // waits
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
// In the order in which files should go: damaged packs and parts of packs, then packs, each by last use. Other files are
// left out.
std::vector<FolderFile> list_folder(const std::filesystem::path& folder);

}  // namespace celslm
