#include "cli/terminal/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace celslm {

Status tell_service_manager(const Environment& env, std::string_view state) {
  const auto name = env.variable("NOTIFY_SOCKET");
  if (!name || name->empty()) return {};
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (name->size() > sizeof address.sun_path)
    return fail(ErrorKind::kUnavailable, "NOTIFY_SOCKET has {} bytes; at most {} are allowed", name->size(),
                sizeof address.sun_path);
  std::ranges::copy(*name, address.sun_path);
  if (name->front() == '@') address.sun_path[0] = '\0';
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(ErrorKind::kUnavailable, "no socket for {}: {}", *name, std::strerror(errno));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name->size());
  const ssize_t sent =
      ::sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), length);
  const int error = errno;
  ::close(fd);
  if (sent < 0) return fail(ErrorKind::kUnavailable, "{} takes no messages: {}", *name, std::strerror(error));
  return {};
}

}  // namespace celslm
