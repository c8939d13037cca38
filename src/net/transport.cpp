#include "net/transport.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace celslm {

Transport::Transport(boost::asio::io_context& io, Fd fd, std::unique_ptr<TlsSession> tls)
    : socket_(io, fd.release()), tls_(std::move(tls)) {}

Transport::Result Transport::result_of(TlsWant want, std::size_t bytes) const {
  switch (want) {
    case TlsWant::kDone: return {.outcome = Outcome::kDone, .bytes = bytes};
    case TlsWant::kRead: return {.outcome = Outcome::kWait, .wait = Wait::wait_read};
    case TlsWant::kWrite: return {.outcome = Outcome::kWait, .wait = Wait::wait_write};
    case TlsWant::kClosed: break;
  }
  return {};
}

Transport::Result Transport::handshake() {
  return tls_ ? result_of(tls_->handshake(), 0) : Result{.outcome = Outcome::kDone};
}

Transport::Result Transport::read(std::span<char> to) {
  if (tls_) {
    std::size_t n = 0;
    const TlsWant want = tls_->read(to.data(), to.size(), n);
    // Without a look at why: a peer that closes without close_notify is as gone as one that sends it. A reset is seen by
    // whoever writes, or waits for errors.
    return want == TlsWant::kClosed ? Result{.outcome = Outcome::kEnd} : result_of(want, n);
  }
  while (true) {
    const ssize_t n = ::recv(socket_.native_handle(), to.data(), to.size(), MSG_DONTWAIT);
    if (n > 0) return {.outcome = Outcome::kDone, .bytes = static_cast<std::size_t>(n)};
    if (n == 0) return {.outcome = Outcome::kEnd};
    if (errno == EAGAIN) return {.outcome = Outcome::kWait, .wait = Wait::wait_read};
    if (errno != EINTR) return {};
  }
}

Transport::Result Transport::write(std::span<const iovec> pieces) {
  if (tls_) {
    std::size_t n = 0;
    const TlsWant want = tls_->write(static_cast<const char*>(pieces.front().iov_base), pieces.front().iov_len, n);
    return result_of(want, n);
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());  // sendmsg does not write to it
  message.msg_iovlen = pieces.size();
  while (true) {
    const ssize_t n = ::sendmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) return {.outcome = Outcome::kDone, .bytes = static_cast<std::size_t>(n)};
    if (errno == EAGAIN) return {.outcome = Outcome::kWait, .wait = Wait::wait_write};
    if (errno != EINTR) return {};
  }
}

void Transport::end_sending() {
  if (tls_) tls_->close_notify();
  ::shutdown(socket_.native_handle(), SHUT_WR);
}

void Transport::reset_on_close() {
  const struct linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

void Transport::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

bool Transport::peer_has_closed() {
  pollfd entry{.fd = socket_.native_handle(), .events = POLLRDHUP, .revents = 0};
  return ::poll(&entry, 1, 0) > 0 && entry.revents != 0;
}

std::string Transport::peer_address() {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  std::array<char, NI_MAXHOST> text{};
  if (::getpeername(socket_.native_handle(), raw, &size) != 0) return {};
  if (::getnameinfo(raw, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0) return {};
  return text.data();
}

}  // namespace celslm
