#include "net/connection.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "net/http_limits.h"

namespace celslm {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

Connection::Connection(Fd fd, std::unique_ptr<TlsSession> tls, milliseconds read_timeout, milliseconds write_timeout)
    : read_timeout_(read_timeout), write_timeout_(write_timeout), fd_(std::move(fd)), tls_(std::move(tls)) {}

std::string Connection::peer_address() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  std::array<char, NI_MAXHOST> text{};
  if (::getpeername(fd_.get(), raw, &size) != 0) return {};
  if (::getnameinfo(raw, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0) return {};
  return text.data();
}

bool Connection::wait(short events, Time deadline) {
  const short seen = wait_for(fd_.get(), events, deadline);
  if (seen == 0) failure_ = Failure::kTimeout;
  return seen != 0 && !aborted_;
}

bool Connection::handshake() {
  if (!tls_) return true;
  const Time deadline = steady_clock::now() + read_timeout_;
  while (true) {
    const TlsWant want = tls_->handshake();
    if (want == TlsWant::kDone) return true;
    if (want == TlsWant::kClosed || !wait(want == TlsWant::kRead ? POLLIN : POLLOUT, deadline)) return false;
  }
}

bool Connection::wait_for_request(milliseconds timeout) {
  if (begin_ < end_) return true;
  failure_ = Failure::kNone;
  phase_ = Phase::kHead;
  begin_ = 0;
  const std::ptrdiff_t n = receive(buffer_.data(), buffer_.size(), steady_clock::now() + timeout);
  end_ = n > 0 ? static_cast<std::size_t>(n) : 0;
  return n > 0;
}

bool Connection::read_head(std::string& out) {
  phase_ = Phase::kHead;
  phase_start_ = steady_clock::now();
  failure_ = Failure::kNone;
  out.clear();
  for (std::size_t n_bytes = 0; n_bytes < kMaxHeadBytes; ++n_bytes) {
    if (begin_ == end_ && fill() <= 0) return false;
    const char c = buffer_[begin_++];
    out.push_back(c);
    if (c != '\n') continue;
    if (out == "\r\n") out.clear();
    if (out.ends_with("\r\n\r\n")) return true;
  }
  failure_ = Failure::kTooLong;
  return false;
}

void Connection::begin_body(bool has_body) {
  phase_ = has_body ? Phase::kBody : Phase::kNoBody;
  phase_start_ = steady_clock::now();
  body_bytes_ = 0;
}

void Connection::stop_reading() {
  phase_ = Phase::kStopped;
}

Connection::Time Connection::read_deadline() const {
  const milliseconds earned(phase_ == Phase::kBody ? body_bytes_ * 1000 / kMinBodyBytesPerS : 0);
  return phase_start_ + read_timeout_ + earned;
}

std::ptrdiff_t Connection::receive(char* data, std::size_t size, Time deadline) {
  while (!aborted_) {
    std::size_t n = 0;
    short events = POLLIN;
    if (tls_) {
      const TlsWant want = tls_->read(data, size, n);
      if (want == TlsWant::kDone) return static_cast<std::ptrdiff_t>(n);
      if (want == TlsWant::kClosed) break;
      if (want == TlsWant::kWrite) events = POLLOUT;
    } else {
      const ssize_t got = ::recv(fd_.get(), data, size, MSG_DONTWAIT);
      if (got > 0) return got;
      if (got == 0) break;
      if (errno != EAGAIN && errno != EINTR) break;
    }
    if (!wait(events, deadline)) return -1;
  }
  failure_ = Failure::kClosed;
  return 0;
}

std::ptrdiff_t Connection::fill() {
  begin_ = end_ = 0;
  const std::ptrdiff_t n = receive(buffer_.data(), buffer_.size(), read_deadline());
  if (n > 0) end_ = static_cast<std::size_t>(n);
  return n;
}

std::ptrdiff_t Connection::read(char* data, std::size_t size) {
  if (phase_ == Phase::kStopped || aborted_) return -1;
  if (phase_ == Phase::kNoBody) return 0;
  if (begin_ == end_) {
    if (const std::ptrdiff_t n = fill(); n <= 0) return n;
  }
  const std::size_t n = std::min(size, end_ - begin_);
  std::memcpy(data, buffer_.data() + begin_, n);
  begin_ += n;
  body_bytes_ += n;
  return static_cast<std::ptrdiff_t>(n);
}

bool Connection::write(const char* data, std::size_t size) {
  Time progress = steady_clock::now();
  const Time deadline = progress + write_timeout_ + milliseconds(size * 1000 / kMinSendBytesPerS);
  while (size > 0 && !aborted_) {
    std::size_t n = 0;
    short events = POLLOUT;
    if (tls_) {
      const TlsWant want = tls_->write(data, size, n);
      if (want == TlsWant::kClosed) return false;
      if (want == TlsWant::kRead) events = POLLIN;
    } else {
      const ssize_t sent = ::send(fd_.get(), data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
      n = sent > 0 ? static_cast<std::size_t>(sent) : 0;
    }
    data += n;
    size -= n;
    bytes_written_ += n;
    if (n > 0) {
      progress = steady_clock::now();
    } else if (!wait(events, std::min(deadline, progress + write_timeout_))) {
      return false;
    }
  }
  return size == 0;
}

void Connection::linger() {
  ::shutdown(fd_.get(), SHUT_WR);
  const Time deadline = steady_clock::now() + kLinger;
  std::size_t seen = 0;
  while (seen < kLingerBytes && wait(POLLIN, deadline)) {
    const ssize_t n = ::recv(fd_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return;
    seen += n > 0 ? static_cast<std::size_t>(n) : 0;
  }
}

void Connection::finish() {
  if (aborted_) return;
  if (tls_) tls_->close_notify();
  // With unread input close() would send RST, and the peer might lose the response. Only refused requests leave input
  // unread.
  if (phase_ == Phase::kStopped || failure_ == Failure::kTooLong) linger();
}

void Connection::reset_on_close() {
  const struct linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

bool Connection::peer_gone() const {
  if (aborted_) return true;
  const MutexLock lock(mutex_);
  // After end_input() POLLRDHUP is always set, so only a complete hang-up tells that the peer is gone.
  const short half = input_ended_ ? 0 : POLLRDHUP;
  pollfd entry{.fd = fd_.get(), .events = half, .revents = 0};
  return ::poll(&entry, 1, 0) > 0 && entry.revents != 0;
}

bool Connection::unreachable() const {
  if (aborted_) return true;
  pollfd entry{.fd = fd_.get(), .events = 0, .revents = 0};  // POLLERR and POLLHUP are always reported
  return ::poll(&entry, 1, 0) > 0 && entry.revents != 0;
}

void Connection::end_input() {
  const MutexLock lock(mutex_);
  input_ended_ = true;
  ::shutdown(fd_.get(), SHUT_RD);
}

void Connection::abort() {
  aborted_ = true;
  ::shutdown(fd_.get(), SHUT_RDWR);
}

}  // namespace celslm
