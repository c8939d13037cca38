#include "net/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "net/address.h"

namespace celslm {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressList> resolve(const std::string& host, int port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string name(unbracketed(host));
  const int code = ::getaddrinfo(name.empty() ? nullptr : name.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) return fail(ErrorKind::kUnavailable, "cannot resolve host '{}': {}", host, ::gai_strerror(code));
  return AddressList(found, &::freeaddrinfo);
}

std::unexpected<Error> listen_error(const std::string& host, int port, int code) {
  switch (code) {
    case EADDRINUSE: return fail(ErrorKind::kUnavailable, "port {} on {} is in use: choose another with --port", port, host);
    case EACCES:
      return fail(ErrorKind::kUnavailable, "no permission for port {} on {}: choose one above 1023 with --port", port, host);
    case EADDRNOTAVAIL:
      return fail(ErrorKind::kUnavailable, "{} is not an address of this machine: choose another with --host", host);
    default: return fail(ErrorKind::kUnavailable, "cannot listen on {}:{}: {}", host, port, std::strerror(code));
  }
}

void set_no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Fd::reset() {
  if (const int fd = std::exchange(fd_, -1); fd >= 0) ::close(fd);
}

short wait_for(int fd, short events, std::chrono::steady_clock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    const int n = ::poll(&entry, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000)));
    if (n > 0) return entry.revents;
    if (n < 0 && errno != EINTR) return POLLERR;
    if (n == 0 && left <= 60'000) return 0;
  }
}

Result<Fd> listen_on(const std::string& host, int port, int backlog) {
  if (port < 0 || port > 65535) return fail(ErrorKind::kInvalid, "port {} is out of range; expected 0 to 65535", port);
  CELSLM_TRY(const AddressList addresses, resolve(host, port, AI_PASSIVE));
  int code = EADDRNOTAVAIL;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    Fd fd(::socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int on = 1;
    // Not SO_REUSEPORT: with it a second server on the same port would silently take half of the connections.
    if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd && ::bind(fd.get(), a->ai_addr, a->ai_addrlen) == 0 && ::listen(fd.get(), backlog) == 0) return fd;
    code = errno;
  }
  return listen_error(host, port, code);
}

int local_port(const Fd& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

Fd accept_from(int listener) {
  Fd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (fd) set_no_delay(fd.get());
  return fd;
}

Result<Fd> connect_to(const std::string& host, int port, std::chrono::milliseconds timeout) {
  CELSLM_TRY(const AddressList addresses, resolve(host, port, 0));
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  int code = ETIMEDOUT;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
    Fd fd(::socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) continue;
    set_no_delay(fd.get());
    if (::connect(fd.get(), a->ai_addr, a->ai_addrlen) == 0) return fd;
    code = errno;
    if (code != EINPROGRESS) continue;
    if (wait_for(fd.get(), POLLOUT, deadline) == 0) {
      code = ETIMEDOUT;
      continue;
    }
    socklen_t size = sizeof code;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &code, &size);
    if (code == 0) return fd;
  }
  return fail(ErrorKind::kUnavailable, "cannot connect to {}:{}: {}", host, port, std::strerror(code));
}

Wakeup::Wakeup() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

void Wakeup::notify() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n =
      ::write(fd_.get(), &one, sizeof one);  // fails only if the counter is full, and then poll() returns anyway
}

void Wakeup::drain() const {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto n = ::read(fd_.get(), &count, sizeof count);
}

}  // namespace celslm
