// Accepts connections, as many as there is room for.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>

#include "net/server_core.h"
#include "net/socket.h"
#include "net/tls_acceptor.h"

namespace celslm {

// Used by the I/O thread only.
class Listener : public std::enable_shared_from_this<Listener> {
 public:
  // tls: null without.
  Listener(std::shared_ptr<ServerCore> core, Fd socket, std::shared_ptr<TlsAcceptor> tls);

  void accept();  // from now on
  void close();

 private:
  void accept_some();
  void take(Fd socket);
  void refuse(Fd socket);
  void out_of_files();

  const std::shared_ptr<ServerCore> core_;
  const std::shared_ptr<TlsAcceptor> tls_;
  const std::size_t max_connections_;
  boost::asio::posix::stream_descriptor socket_;
  boost::asio::steady_timer pause_;
  Fd spare_;  // given up for a moment to accept a connection that is refused, when the process has no other file left
  std::chrono::steady_clock::time_point warned_;
};

}  // namespace celslm
