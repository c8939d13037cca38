#include "kv/store/store_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>

#include "core/file.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMarker = "celslm-packs";
constexpr std::string_view kMarkerText = "celslm pack store 1\n";

fs::path marker_of(const fs::path& folder) {
  return folder / kMarker;
}

Status make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorKind::kIo, "{}: cannot create the folder: {}", folder.string(), error.message());
  return {};
}

// The folder must have our marker or be empty.
Status check_owner(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(marker_of(folder), error)) return {};
  const bool empty = fs::is_empty(folder, error);
  if (error) return fail(ErrorKind::kIo, "{}: cannot list: {}", folder.string(), error.message());
  if (empty || fs::exists(marker_of(folder), error)) return {};  // again: another process may just have created it
  return fail(ErrorKind::kInvalid, "{}: the folder contains other files and no '{}'; choose an empty folder for packs",
              folder.string(), kMarker);
}

// An empty marker is valid: its process was killed before it wrote the text.
Status write_marker(const fs::path& folder) {
  CELSLM_TRY(const FolderLock lock, FolderLock::acquire(folder));
  CELSLM_TRY(const Bytes text, read_file(marker_of(folder), 4096));
  if (as_text(text) == kMarkerText) return {};
  if (!text.empty()) {
    return fail(ErrorKind::kInvalid, "{}: created by another version ('{}'); choose another folder", folder.string(),
                as_text(text).substr(0, 40));
  }
  const int fd = ::open(marker_of(folder).c_str(), O_WRONLY | O_CLOEXEC);  // in place, because the lock is on this file
  const bool written =
      fd >= 0 && ::write(fd, kMarkerText.data(), kMarkerText.size()) == static_cast<ssize_t>(kMarkerText.size());
  const int code = errno;
  if (fd >= 0) ::close(fd);
  if (!written) return fail(ErrorKind::kIo, "{}: cannot write: {}", marker_of(folder).string(), std::strerror(code));
  return {};
}

}  // namespace

Status claim_folder(const fs::path& folder) {
  CELSLM_CHECK_OK(make_folder(folder));
  CELSLM_CHECK_OK(check_owner(folder));
  return write_marker(folder);
}

Result<FolderLock> FolderLock::acquire(const fs::path& folder) {
  const fs::path marker = marker_of(folder);
  FolderLock lock(::open(marker.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (lock.fd_ < 0) return fail(ErrorKind::kIo, "{}: cannot write to the folder: {}", folder.string(), std::strerror(errno));
  int rc = 0;
  do rc = ::flock(lock.fd_, LOCK_EX);
  while (rc != 0 && errno == EINTR);
  if (rc != 0) return fail(ErrorKind::kIo, "{}: cannot lock: {}", marker.string(), std::strerror(errno));
  return lock;
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

std::vector<FolderFile> list_folder(const fs::path& folder) {
  std::vector<FolderFile> out;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    const std::string name = path.filename().string();
    FolderFile file{.path = path};
    if (is_temporary_name(name)) {
      file.kind = FolderFile::Kind::kUnfinished;
    } else if (path.extension() == kBadSuffix) {
      file.kind = FolderFile::Kind::kBad;
    } else if (path.extension() == kPartSuffix) {
      file.kind = FolderFile::Kind::kPart;
    } else if (!name.ends_with(kPackSuffix)) {
      continue;
    }
    std::error_code gone;  // evicted by another process: omitted
    file.bytes = entry->file_size(gone);
    if (gone) continue;
    file.used = entry->last_write_time(gone);
    if (!gone) out.push_back(std::move(file));
  }
  std::ranges::sort(out, {},
                    [](const FolderFile& f) { return std::tuple(f.kind >= FolderFile::Kind::kPack, f.used, f.path); });
  return out;
}

}  // namespace celslm
