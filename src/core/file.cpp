#include "core/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace celslm {
namespace {

namespace fs = std::filesystem;

std::unexpected<Error> system_error(const fs::path& path, const char* doing) {
  const int code = errno;
  const ErrorKind kind = code == ENOENT ? ErrorKind::kNotFound : ErrorKind::kIo;
  return fail(kind, "{}: cannot {}: {}", path.string(), doing, std::strerror(code));
}

constexpr std::string_view kTemporarySuffix = ".tmp";

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

Result<std::uint64_t> regular_size(int fd, const fs::path& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return system_error(path, "stat");
  if (!S_ISREG(info.st_mode)) return fail(ErrorKind::kInvalid, "{}: not a regular file", path.string());
  return static_cast<std::uint64_t>(info.st_size);
}

Status sync_folder(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || ::fsync(fd.get()) != 0) return system_error(folder, "sync");
  return {};
}

// Unique per process and call; the process id is for people who wonder whose it is. Containers that share a folder may use
// the same ids, hence the tries at the next name.
fs::path temporary_name(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  return path.string() + fmt::format(".{}.{}{}", ::getpid(), counter.fetch_add(1), kTemporarySuffix);
}

// A lock that dies with its holder marks a temporary file as in use. A process id would not do: ids are used again, and
// mean nothing in another container.
bool lock_exclusively(int fd, int flags = 0) {
  int rc = 0;
  do rc = ::flock(fd, LOCK_EX | flags);
  while (rc != 0 && errno == EINTR);
  return rc == 0;
}

bool is_linked(int fd) {
  struct stat info{};
  return ::fstat(fd, &info) == 0 && info.st_nlink > 0;
}

// A new file that remove_abandoned_files() leaves alone while it is open. Between creation and lock another process may take
// it for abandoned: the lock then waits for that process's unlink(), and the next name is tried.
Result<std::pair<int, fs::path>> create_temporary(const fs::path& path, mode_t mode) {
  for (int tries = 0; tries < 100; ++tries) {
    fs::path temporary = temporary_name(path);
    Descriptor fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (fd.get() < 0 && errno == EEXIST) continue;
    if (fd.get() < 0) return system_error(temporary, "create");
    lock_exclusively(fd.get());  // file systems without locks: the cleaner cannot lock either, and leaves everything
    if (is_linked(fd.get())) return std::pair(fd.release(), std::move(temporary));
  }
  return fail(ErrorKind::kIo, "{}: cannot create a temporary file beside it: all names are taken", path.string());
}

// All n bytes from `offset` on; kIo if the file ends before.
Result<Bytes> read_exactly(int fd, const fs::path& path, std::uint64_t offset, std::size_t n) {
  Bytes out(n);
  std::size_t done = 0;
  while (done < n) {
    const ssize_t got = ::pread(fd, out.data() + done, n - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, "read");
    if (got == 0) return fail(ErrorKind::kIo, "{}: ends at byte {}", path.string(), offset + done);
    done += static_cast<std::size_t>(got);
  }
  return out;
}

}  // namespace

InputFile::InputFile(int fd, std::uint64_t size, fs::path path) : fd_(fd), size_(size), path_(std::move(path)) {}

InputFile::~InputFile() {
  ::close(fd_);
}

Result<std::shared_ptr<const InputFile>> InputFile::open(const fs::path& path) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return system_error(path, "open");
  CELSLM_TRY(const std::uint64_t size, regular_size(fd.get(), path));
  return std::shared_ptr<const InputFile>(new InputFile(fd.release(), size, path));
}

// Asked for before anything of that size is allocated.
Result<Bytes> InputFile::read(std::uint64_t offset, std::size_t n) const {
  if (offset <= size_ && n <= size_ - offset) return read_exactly(fd_, path_, offset, n);
  return fail(ErrorKind::kIo, "{}: bytes {} to {} of a file of {}", path_.string(), offset, offset + n, size_);
}

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const fs::path& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return system_error(path, "open");
  CELSLM_TRY(const std::uint64_t size, regular_size(fd.get(), path));
  if (size == 0) return std::shared_ptr<const MappedFile>(new MappedFile(nullptr, 0));
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return system_error(path, "map");
  return std::shared_ptr<const MappedFile>(new MappedFile(static_cast<const std::byte*>(data), size));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<Bytes> read_file(const fs::path& path, std::uint64_t limit_bytes) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return system_error(path, "open");
  CELSLM_TRY(const std::uint64_t size, regular_size(fd.get(), path));
  if (size > limit_bytes) {
    return fail(ErrorKind::kInvalid, "{}: {} bytes, more than the limit of {}", path.string(), size, limit_bytes);
  }
  Bytes out(size);
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::read(fd.get(), out.data() + done, out.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "read");
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  out.resize(done);
  return out;
}

Status write_file_atomically(const fs::path& path, ByteView data) {
  CELSLM_TRY(const auto file, AtomicFile::create(path, data.size()));
  CELSLM_CHECK_OK(file->write_at(0, data));
  return file->commit();
}

Result<bool> write_new_private_file(const fs::path& path, ByteView data) {
  CELSLM_TRY(const auto file, AtomicFile::create(path, data.size(), 0600));
  CELSLM_CHECK_OK(file->write_at(0, data));
  return file->commit_new();
}

bool is_temporary_name(std::string_view name) {
  return name.ends_with(kTemporarySuffix);
}

Result<int> remove_abandoned_files(const fs::path& folder, const KeepFile& keep) {
  std::error_code error;
  int removed = 0;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (!is_temporary_name(entry->path().filename().string())) continue;
    const Descriptor fd(::open(entry->path().c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (fd.get() < 0 || !regular_size(fd.get(), entry->path()) || !lock_exclusively(fd.get(), LOCK_NB)) continue;
    if (const fs::path kept = keep ? keep(entry->path()) : fs::path(); !kept.empty()) {
      ::rename(entry->path().c_str(), kept.c_str());
    } else if (::unlink(entry->path().c_str()) == 0) {
      ++removed;
    }
  }
  if (error) return fail(ErrorKind::kIo, "{}: cannot list: {}", folder.string(), error.message());
  return removed;
}

AtomicFile::AtomicFile(int fd, fs::path temporary, fs::path path)
    : fd_(fd), temporary_(std::move(temporary)), path_(std::move(path)) {}

Result<std::unique_ptr<AtomicFile>> AtomicFile::create(const fs::path& path, std::uint64_t size_bytes) {
  return create(path, size_bytes, 0644);
}

Result<std::unique_ptr<AtomicFile>> AtomicFile::create(const fs::path& path, std::uint64_t size_bytes, unsigned mode) {
  // Renaming would put a file in the place of a device, for everybody on this machine where root does it.
  std::error_code unknown;
  const fs::file_status there = fs::status(path, unknown);
  if (fs::exists(there) && !fs::is_regular_file(there))
    return fail(ErrorKind::kInvalid, "{}: not a regular file, and would be replaced by one: name another", path.string());
  CELSLM_TRY(auto created, create_temporary(path, mode));
  auto& [descriptor, temporary] = created;
  Descriptor fd(descriptor);
  // Reserving the space first turns "disk full" into an error here, before any work is done.
  if (size_bytes > 0) {
    if (const int code = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(size_bytes)); code != 0) {
      errno = code;
      auto error = system_error(temporary, "reserve space");
      ::unlink(temporary.c_str());
      return error;
    }
  }
  return std::unique_ptr<AtomicFile>(new AtomicFile(fd.release(), std::move(temporary), path));
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty() && (left_.empty() || ::rename(temporary_.c_str(), left_.c_str()) != 0))
    ::unlink(temporary_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

Status AtomicFile::write_at(std::uint64_t offset, ByteView data) {
  while (!data.empty()) {
    const ssize_t n = ::pwrite(fd_, data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(temporary_, "write");
    data = data.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<Bytes> AtomicFile::read_at(std::uint64_t offset, std::size_t n) const {
  return read_exactly(fd_, temporary_, offset, n);
}

Status AtomicFile::truncate(std::uint64_t size_bytes) {
  if (::ftruncate(fd_, static_cast<off_t>(size_bytes)) != 0) return system_error(temporary_, "shorten");
  return {};
}

Status AtomicFile::commit() {
  if (::fsync(fd_) != 0) return system_error(temporary_, "sync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return system_error(path_, "rename into place");
  temporary_.clear();
  return sync_folder(path_);
}

Result<bool> AtomicFile::commit_new() {
  if (::fsync(fd_) != 0) return system_error(temporary_, "sync");
  if (::link(temporary_.c_str(), path_.c_str()) != 0) {  // unlike rename, never replaces
    if (errno == EEXIST) return false;
    return system_error(path_, "link into place");
  }
  CELSLM_CHECK_OK(sync_folder(path_));
  return true;
}

}  // namespace celslm
