// Emulates a network link in user space: a TCP relay with a limited rate, a delay and injected faults.
//
// The rate is that of one cable, which all connections share; the two directions are independent. Every piece of data gets
// the time at which the cable has transmitted it (virtual finish time), plus the one-way delay. At most kQueueTime of
// traffic is queued in the relay; beyond that senders get back pressure, as from a router with a short queue.
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
  int listen_port = 0;  // 0: any free port
  std::string to_host = "127.0.0.1";
  int to_port = 0;
  double rate_mbit = 0;                 // 10^6 bits per second in each direction; 0: unlimited
  std::chrono::microseconds delay{0};   // one way
  std::uint64_t drop_after_bytes = 0;   // see Relay::drop_after; 0: never
  std::uint64_t stall_after_bytes = 0;  // pause() after about this many bytes from the server; 0: never
  bool record = false;                  // store what clients send, see Relay::recorded
  std::filesystem::path record_file;    // also append it to this file when a connection ends; created empty
};

// Runs on a separate thread. All methods are thread-safe. The destructor resets the connections that are still open.
class Relay {
 public:
  // kUnavailable if it cannot listen, kIo if the record file cannot be written.
  static Result<std::unique_ptr<Relay>> start(const RelayOptions& options);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  int port() const;
  std::string url() const;  // "http://127.0.0.1:PORT"

  // Bytes received from clients and from the server so far.
  std::uint64_t bytes_up() const;
  std::uint64_t bytes_down() const;
  int connections() const;  // total so far
  // All bytes that clients sent, one connection after the other and not interleaved, so that a text that was sent in pieces
  // can be found. Requires RelayOptions::record.
  std::string recorded() const;

  void set_rate(double rate_mbit);
  void pause();   // a dead link: no data is forwarded, and no error reported
  void resume();  // after pause, cut or drop_after
  void cut();     // resets all connections and every new one until resume()
  // cut() after this many more bytes from the server.
  void drop_after(std::uint64_t bytes);
  // Flips a bit in each of `count` bytes from the server, after the next `skip` bytes.
  void garble(std::uint64_t skip, std::uint64_t count);

 private:
  class Impl;
  explicit Relay(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm::testing_support
