// Sockets for the server and the test relay: owned descriptors, listening, accepting, connecting.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/result.h"

namespace celslm {

// Owns a file descriptor. Not thread-safe.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();
  int release() { return std::exchange(fd_, -1); }  // to a new owner

 private:
  int fd_ = -1;
};

// Waits for poll(2) events on one descriptor and returns those that occurred, or 0 at the deadline. A deadline in the past
// polls once. Restarted after signals.
short wait_for(int fd, short events, std::chrono::steady_clock::time_point deadline);

// A non-blocking listening socket (port 0: any free port). kUnavailable, with the port and the remedy; kInvalid for a port
// above 65535.
Result<Fd> listen_on(const std::string& host, int port, int backlog);
int local_port(const Fd& socket);
// The next pending connection, non-blocking and with TCP_NODELAY. An empty Fd if there is none or the process is out of
// descriptors; errno tells which.
Fd accept_from(int listener);
// A connected, non-blocking socket with TCP_NODELAY. Errors: kUnavailable.
Result<Fd> connect_to(const std::string& host, int port, std::chrono::milliseconds timeout);

// An event that wakes a poll loop. notify() is thread-safe.
class Wakeup {
 public:
  Wakeup();
  int fd() const { return fd_.get(); }
  void notify() const;
  void drain() const;

 private:
  Fd fd_;
};

}  // namespace celslm
