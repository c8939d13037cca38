// Plain sockets for tests: clients that send raw bytes, and servers that misbehave as scripted.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "net/socket.h"

namespace celslm::testing_support {

// One end of a connection. Blocking calls fail after a generous time limit, so that a bug fails a test instead of hanging
// it. Not thread-safe.
class RawPeer {
 public:
  explicit RawPeer(Fd fd) : fd_(std::move(fd)) {}
  static RawPeer connect(int port);  // to 127.0.0.1

  bool send(std::string_view data);               // false once the other side is gone
  std::string read_some();                        // the next bytes; empty at the end, on a reset or on a timeout
  std::string read_until(std::string_view mark);  // up to and including `mark`; less at the end
  std::string read_to_end();
  // One HTTP message: its head, and its body if there is a Content-Length.
  std::string read_message();
  bool was_reset() const { return reset_; }
  bool timed_out() const { return timed_out_; }  // a blocking call exceeded the time limit
  void end_sending();
  void reset();  // closes with RST
  void close() { fd_.reset(); }

 private:
  Fd fd_;
  std::string pending_;
  bool reset_ = false;
  bool timed_out_ = false;
};

// Runs `script` on a separate thread for every connection. The destructor ends all connections and joins the threads.
class RawServer {
 public:
  // `number`: 0 for the first connection, and so on. The connection is closed when the script returns.
  using Script = std::function<void(RawPeer& peer, int number)>;
  explicit RawServer(Script script);
  ~RawServer();
  int port() const { return port_; }
  int connections() const { return connections_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  void accept_loop();
  Script script_;
  Fd listener_;
  int port_ = 0;
  Wakeup wakeup_;
  std::atomic<int> connections_{0};
  std::vector<std::thread> scripts_;  // used by the accepting thread, and by the destructor after joining it
  std::thread acceptor_;
};

}  // namespace celslm::testing_support
