#include "tests/support/raw_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

namespace celslm::testing_support {
namespace {

std::chrono::steady_clock::time_point guard() {
  return std::chrono::steady_clock::now() + std::chrono::seconds(20);
}

}  // namespace

RawPeer RawPeer::connect(int port) {
  auto fd = connect_to("127.0.0.1", port, std::chrono::seconds(20));
  return RawPeer(fd ? std::move(*fd) : Fd());
}

bool RawPeer::send(std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::send(fd_.get(), data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      data.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno != EAGAIN || wait_for(fd_.get(), POLLOUT, guard()) == 0) {
      return false;
    }
  }
  return true;
}

std::string RawPeer::read_some() {
  if (!pending_.empty()) return std::exchange(pending_, {});
  std::array<char, 65536> buffer{};
  while (true) {
    const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n >= 0) return {buffer.data(), static_cast<std::size_t>(n)};
    if (errno != EAGAIN) {
      reset_ = true;
      return {};
    }
    if (wait_for(fd_.get(), POLLIN, guard()) == 0) {
      timed_out_ = true;
      return {};
    }
  }
}

std::string RawPeer::read_until(std::string_view mark) {
  std::string out;
  while (true) {
    if (const std::size_t at = out.find(mark); at != std::string::npos) {
      pending_ = out.substr(at + mark.size());
      out.resize(at + mark.size());
      return out;
    }
    const std::string more = read_some();
    if (more.empty()) return out;
    out += more;
  }
}

std::string RawPeer::read_to_end() {
  std::string out;
  while (true) {
    const std::string more = read_some();
    if (more.empty()) return out;
    out += more;
  }
}

std::string RawPeer::read_message() {
  std::string out = read_until("\r\n\r\n");
  const std::size_t at = out.find("Content-Length: ");
  std::size_t left = at == std::string::npos ? 0 : std::strtoull(out.c_str() + at + 16, nullptr, 10);
  while (left > 0) {
    std::string more = read_some();
    if (more.empty()) return out;
    const std::size_t n = std::min(left, more.size());
    out += more.substr(0, n);
    pending_ = more.substr(n);
    left -= n;
  }
  return out;
}

void RawPeer::end_sending() {
  ::shutdown(fd_.get(), SHUT_WR);
}

void RawPeer::reset() {
  const struct linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  fd_.reset();
}

RawServer::RawServer(Script script) : script_(std::move(script)) {
  if (auto listener = listen_on("127.0.0.1", 0, 64)) listener_ = std::move(*listener);
  port_ = local_port(listener_);
  acceptor_ = std::thread([this] { accept_loop(); });
}

RawServer::~RawServer() {
  wakeup_.notify();
  acceptor_.join();
  for (std::thread& script : scripts_) script.join();
}

void RawServer::accept_loop() {
  while (true) {
    std::array<pollfd, 2> entries{pollfd{.fd = listener_.get(), .events = POLLIN, .revents = 0},
                                  pollfd{.fd = wakeup_.fd(), .events = POLLIN, .revents = 0}};
    ::poll(entries.data(), entries.size(), -1);
    if (entries[1].revents != 0) return;
    Fd fd = accept_from(listener_.get());
    if (!fd) continue;
    scripts_.emplace_back(
        [this, number = connections_++, peer = RawPeer(std::move(fd))]() mutable { script_(peer, number); });
  }
}

}  // namespace celslm::testing_support
