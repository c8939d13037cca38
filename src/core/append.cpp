#include "core/append.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace celslm {
namespace {

std::unexpected<Error> system_error(const std::filesystem::path& path, const char* doing) {
  const int code = errno;
  return fail(code == ENOENT ? ErrorKind::kNotFound : ErrorKind::kIo, "{}: cannot {}: {}", path.string(), doing,
              std::strerror(code));
}

Status write_all(int fd, const std::filesystem::path& path, ByteView data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "write");
    data = data.subspan(static_cast<std::size_t>(n));
  }
  if (::fsync(fd) != 0) return system_error(path, "sync");
  return {};
}

}  // namespace

Status append_durably(const std::filesystem::path& path, ByteView data) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return system_error(path, "open");
  Status out = write_all(fd, path, data);
  ::close(fd);
  return out;
}

}  // namespace celslm
