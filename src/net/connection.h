// One accepted connection: buffered reads with deadlines, complete writes, and termination from other threads.
//
// Slow senders are bounded in total, not only per read: a request head must be complete within `read_timeout` and
// kMaxHeadBytes, and a body must reach an average of kMinBodyBytesPerS.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/mutex.h"
#include "net/socket.h"
#include "net/tls.h"

namespace celslm {

// Owned and used by one thread; only peer_gone(), unreachable(), end_input() and abort() may be called from any thread.
class Connection {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Failure { kNone, kTimeout, kTooLong, kClosed };

  Connection(Fd fd, std::unique_ptr<TlsSession> tls, std::chrono::milliseconds read_timeout,
             std::chrono::milliseconds write_timeout);
  ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool handshake();  // TLS handshake within read_timeout; true immediately without TLS
  // True once the first byte of the next request has arrived; false if the peer closed the connection, end_input() was
  // called or the timeout expired.
  bool wait_for_request(std::chrono::milliseconds timeout);

  // Reads a request's head to its empty line, and not beyond. Empty lines before it are skipped. False, with failure() set,
  // if it does not come to its end within the limits; `out` then has what came.
  bool read_head(std::string& out);
  void begin_body(bool has_body);  // starts the deadline of a body; without one, reads return 0 until the next head
  void stop_reading();             // later reads fail, because the rest of the input will not be used

  // Returns the number of bytes of a body read, at least 1; 0 at the end of the stream; -1 on failure, see failure().
  std::ptrdiff_t read(char* data, std::size_t size);
  bool readable() const { return begin_ < end_; }  // without waiting
  // Writes all bytes; false if the peer is gone or too slow (write_timeout, kMinSendBytesPerS).
  bool write(const char* data, std::size_t size);

  Failure failure() const { return failure_; }
  std::uint64_t bytes_written() const { return bytes_written_; }

  // Ends the stream in an orderly way: sends TLS close_notify and lets the peer read what was sent (see kLinger).
  void finish();

  void reset_on_close();  // closing then sends RST, so that the peer sees an error instead of the end of the stream

  std::string peer_address() const;  // numeric, without the port; empty if it cannot be told
  // The peer has closed the connection, or at least its sending side, which looks the same until something is written to it;
  // or reset it.
  bool peer_gone() const;
  bool unreachable() const;  // the connection was reset or aborted: nothing that is written can arrive
  void end_input();          // wakes wait_for_request(); a request that has already arrived is still answered
  void abort();              // all reads and writes fail from now on

 private:
  std::ptrdiff_t fill();
  std::ptrdiff_t receive(char* data, std::size_t size, Time deadline);
  Time read_deadline() const;
  bool wait(short events, Time deadline);
  void linger();

  const std::chrono::milliseconds read_timeout_;
  const std::chrono::milliseconds write_timeout_;
  const Fd fd_;
  const std::unique_ptr<TlsSession> tls_;  // over fd_, so destroyed before it; used by the owner only
  mutable Mutex mutex_;
  bool input_ended_ CELSLM_GUARDED_BY(mutex_) = false;

  std::array<char, 16U << 10> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;

  enum class Phase { kHead, kBody, kNoBody, kStopped };
  Phase phase_ = Phase::kHead;
  Time phase_start_{};
  std::uint64_t body_bytes_ = 0;
  std::uint64_t bytes_written_ = 0;
  Failure failure_ = Failure::kNone;
  std::atomic<bool> aborted_{false};
};

}  // namespace celslm
