// The file system as this project uses it: small files read at once, read-only maps, and writes that are all or nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/result.h"

namespace celslm {

// A file that is read in pieces. What others do to it meanwhile is an error of the read that meets it: kIo for bytes that
// are gone. Renamed or removed, it stays readable. Thread-safe.
class InputFile {
 public:
  static Result<std::shared_ptr<const InputFile>> open(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::uint64_t size() const { return size_; }  // when it was opened
  const std::filesystem::path& path() const { return path_; }
  Result<Bytes> read(std::uint64_t offset, std::size_t n) const;

 private:
  InputFile(int fd, std::uint64_t size, std::filesystem::path path);
  const int fd_;
  const std::uint64_t size_;
  const std::filesystem::path path_;
};

// A read-only memory map, for model files: too large to be copied. The bytes live as long as the object; a file truncated by
// others while mapped raises SIGBUS on access. Thread-safe.
class MappedFile {
 public:
  static Result<std::shared_ptr<const MappedFile>> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  ByteView bytes() const { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, std::size_t size) : data_(data), size_(size) {}
  const std::byte* data_;
  std::size_t size_;
};

// Fails with kInvalid if the file is longer than limit_bytes.
Result<Bytes> read_file(const std::filesystem::path& path, std::uint64_t limit_bytes);

// Readers see the old file or the new one, never a part: temporary name in the same folder, fsync, rename, fsync of the
// folder. On error nothing is left behind. kInvalid where `path` is a folder, a device or a pipe.
Status write_file_atomically(const std::filesystem::path& path, ByteView data);

// A file that only its owner may read, complete from its first moment on. False, with nothing changed, if `path` exists.
Result<bool> write_new_private_file(const std::filesystem::path& path, ByteView data);

// Removes what killed processes left in `folder`: temporary files of write_file_atomically, AtomicFile and
// write_new_private_file that no living process (on this machine, in any container) still writes. How many there were.
// `keep` returns the path under which to keep one instead, or an empty path to remove it.
using KeepFile = std::function<std::filesystem::path(const std::filesystem::path& temporary)>;
Result<int> remove_abandoned_files(const std::filesystem::path& folder, const KeepFile& keep = {});
// Whether a name is that of a temporary file of this kind.
bool is_temporary_name(std::string_view name);

// The same for a file written in pieces at any offset (a pack that arrives block by block). Until commit() nothing is
// visible under `path`; the destructor without commit() removes the temporary file. write_at and read_at are thread-safe.
class AtomicFile {
 public:
  static Result<std::unique_ptr<AtomicFile>> create(const std::filesystem::path& path, std::uint64_t size_bytes);
  // With these permissions instead of 0644 (less the umask).
  static Result<std::unique_ptr<AtomicFile>> create(const std::filesystem::path& path, std::uint64_t size_bytes,
                                                    unsigned mode);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  Status write_at(std::uint64_t offset, ByteView data);
  Result<Bytes> read_at(std::uint64_t offset, std::size_t n) const;
  // Without commit(), the destructor renames the file to this path, replacing what is there, instead of removing it.
  void leave_as(std::filesystem::path path) { left_ = std::move(path); }
  Status truncate(std::uint64_t size_bytes);  // where less was written than create() reserved
  // Another name for it than create() was given, in the same folder. Before commit().
  void name_it(std::filesystem::path path) { path_ = std::move(path); }
  Status commit();  // once, after the last write_at
  // The same, but never replaces: false, and nothing written, if `path` exists already.
  Result<bool> commit_new();

 private:
  AtomicFile(int fd, std::filesystem::path temporary, std::filesystem::path path);
  int fd_;
  std::filesystem::path temporary_;
  std::filesystem::path path_;
  std::filesystem::path left_;
};

}  // namespace celslm
