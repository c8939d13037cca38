// Sockets as the server and the test relay need them: owned descriptors, listening, accepting.
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

 private:
  int fd_ = -1;
};

// Waits for poll(2) events on one descriptor; the events seen, 0 at the deadline. A wait is never negative, and is
// restarted after signals.
short wait_for(int fd, short events, std::chrono::steady_clock::time_point deadline);

// A non-blocking listening socket (port 0: any free one). kUnavailable names the port and the remedy.
Result<Fd> listen_on(const std::string& host, int port, int backlog);
int local_port(const Fd& socket);
// The next connection, non-blocking and with TCP_NODELAY; an empty Fd when none waits or the process is out of
// descriptors.
Fd accept_from(const Fd& listener);
// A connected, non-blocking socket with TCP_NODELAY; kUnavailable.
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
