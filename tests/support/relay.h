// A link of any speed in user space: a TCP relay with a rate, a delay and faults on command.
//
// The rate is that of one cable: all connections share it, each direction on its own. A piece that comes in is given the
// time at which the cable has carried it (virtual finish time), plus the one-way delay; at most kQueueTime of traffic waits
// in the relay, then senders feel back pressure, as before a router with a short queue.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "core/result.h"

namespace celslm::testing_support {

struct RelayOptions {
  std::string listen_host = "127.0.0.1";
  int listen_port = 0;  // 0: any free one
  std::string to_host = "127.0.0.1";
  int to_port = 0;
  double rate_mbit = 0;                 // 10^6 bits per second in each direction; 0: as fast as it goes
  std::chrono::microseconds delay{0};   // one way
  std::uint64_t drop_after_bytes = 0;   // see Relay::drop_after; 0: never
  std::uint64_t stall_after_bytes = 0;  // pause() about when so many bytes have come from the server; 0: never
  bool record = false;                  // keep what clients send, see Relay::recorded
  std::filesystem::path record_file;    // also append it here, each connection when it ends (created empty)
};

// Runs on a thread of its own; all methods are thread-safe. The destructor resets what is still connected.
class Relay {
 public:
  // kUnavailable when it cannot listen, kIo for a record file that cannot be written.
  static Result<std::unique_ptr<Relay>> start(const RelayOptions& options);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  int port() const;
  std::string url() const;  // "http://127.0.0.1:PORT"

  // Bytes taken from clients and from the server so far.
  std::uint64_t bytes_up() const;
  std::uint64_t bytes_down() const;
  int connections() const;  // ever made
  // Every byte that clients sent, one connection after the other (never interleaved, so that a search finds a text that
  // went out in pieces). Needs RelayOptions::record.
  std::string recorded() const;

  void set_rate(double rate_mbit);
  void pause();   // nothing moves, nobody is told: a dead link
  void resume();  // after pause, cut or drop_after
  void cut();     // resets all connections and every new one until resume()
  // cut() once this many more bytes have come from the server.
  void drop_after(std::uint64_t bytes);
  // Flips a bit in each of `count` bytes from the server, after letting `skip` pass.
  void garble(std::uint64_t skip, std::uint64_t count);

 private:
  class Impl;
  explicit Relay(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm::testing_support
