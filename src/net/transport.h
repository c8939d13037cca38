// One accepted socket, plain or with TLS: reads and writes that never wait, and waits that never block.
//
// Asio's own TLS stream keeps about 70 KB of buffers for each connection; TlsSession over a non-blocking socket keeps none
// while it waits. So both kinds of sockets are used by readiness: try, and if it is not possible yet, wait for what it
// needs.
#pragma once

#include <sys/uio.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "net/socket.h"
#include "net/tls.h"

namespace celslm {

// Used by the I/O thread only.
class Transport {
 public:
  using Wait = boost::asio::posix::stream_descriptor::wait_type;
  enum class Outcome {
    kDone,    // `bytes` were moved, at least one; or the handshake is complete
    kWait,    // not now: wait for `wait`
    kEnd,     // reads: the peer has closed its sending side
    kBroken,  // nothing can be moved any more
  };
  struct Result {
    Outcome outcome = Outcome::kBroken;
    std::size_t bytes = 0;
    Wait wait = Wait::wait_read;
  };

  Transport(boost::asio::io_context& io, Fd fd, std::unique_ptr<TlsSession> tls);

  Result handshake();  // complete at once without TLS
  Result read(std::span<char> to);
  Result write(std::span<const iovec> pieces);  // at least one, none empty

  // Calls handler(error_code) once the socket is ready or closed. One wait of each kind at a time.
  template <typename Handler>
  void async_wait(Wait wait, Handler handler) {
    socket_.async_wait(wait, std::move(handler));
  }

  void end_sending();     // TLS close_notify, then FIN
  void reset_on_close();  // closing then sends RST, so that the peer sees an error instead of the end of the stream
  void close();           // ends all waits; idempotent
  bool open() const { return socket_.is_open(); }
  bool peer_has_closed();      // its sending side at least, even if there are unread bytes before that
  std::string peer_address();  // numeric, without the port; empty if it cannot be told
  // TlsSession's; empty without TLS.
  std::string peer_certificate() const { return tls_ ? tls_->peer_name() : ""; }
  std::string certificate_problem() const { return tls_ ? tls_->certificate_problem() : ""; }

 private:
  Result result_of(TlsWant want, std::size_t bytes) const;

  boost::asio::posix::stream_descriptor socket_;
  const std::unique_ptr<TlsSession> tls_;
};

}  // namespace celslm
