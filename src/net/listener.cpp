#include "net/listener.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "net/connection.h"
#include "net/http_limits.h"
#include "net/open_files.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr int kAcceptedTogether = 64;  // then others have their turn
constexpr auto kPause = 20ms;          // while there is no file for another connection

Fd spare_file() {
  return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

std::size_t most_connections(const HttpServerOptions& options) {
  if (options.max_connections > 0) return options.max_connections;
  const std::size_t files = open_file_limit();
  return std::max(files, 2 * std::size_t{kReservedFiles}) - kReservedFiles;
}

}  // namespace

Listener::Listener(std::shared_ptr<ServerCore> core, Fd socket, std::shared_ptr<TlsAcceptor> tls)
    : core_(std::move(core)),
      tls_(std::move(tls)),
      max_connections_(most_connections(core_->settings.options)),
      socket_(core_->io, socket.release()),
      pause_(core_->io),
      spare_(spare_file()) {}

void Listener::accept() {
  socket_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                     [self = shared_from_this()](boost::system::error_code error) {
                       if (!error) self->accept_some();
                     });
}

void Listener::accept_some() {
  for (int i = 0; i < kAcceptedTogether && socket_.is_open(); ++i) {
    Fd socket = accept_from(socket_.native_handle());
    if (!socket && (errno == EMFILE || errno == ENFILE)) return out_of_files();
    if (!socket) break;
    take(std::move(socket));
  }
  if (socket_.is_open()) accept();
}

void Listener::take(Fd socket) {
  if (core_->table.size() >= max_connections_ && !core_->table.evict_one()) return refuse(std::move(socket));
  auto tls = tls_ ? tls_->accept(socket.get()) : nullptr;
  if (tls_ && !tls) return;
  std::make_shared<Connection>(core_, std::move(socket), std::move(tls))->start();
}

void Listener::refuse(Fd socket) {
  const auto now = std::chrono::steady_clock::now();
  if (now - warned_ > 1s) {
    warned_ = now;
    core_->settings.log->warn("{} connections are open, and none is idle: further ones are refused", core_->table.size());
  }
  if (!tls_) std::make_shared<Connection>(core_, std::move(socket), nullptr)->refuse(429);
}

// Accepting again at once would only spin until another file is closed.
void Listener::out_of_files() {
  if (!core_->table.evict_one()) {
    spare_.reset();
    if (Fd socket = accept_from(socket_.native_handle())) refuse(std::move(socket));
    spare_ = spare_file();
  }
  pause_.expires_after(kPause);
  pause_.async_wait([self = shared_from_this()](boost::system::error_code error) {
    if (!error && self->socket_.is_open()) self->accept();
  });
}

void Listener::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
  pause_.cancel();
}

}  // namespace celslm
