// One accepted connection: buffered reads under deadlines, whole writes, and a way to ask or end it from other threads.
//
// Reading knows two phases, so that slow senders are bounded in total and not only per read: a head must be complete
// within `read_timeout` and kMaxHeadBytes, a body must on average reach kMinBodyBytesPerS.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/mutex.h"
#include "net/socket.h"
#include "net/tls.h"

namespace celslm {

// One thread owns it; peer_gone(), end_input() and cut() may be called from any thread while it lives.
class Connection {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Failure { kNone, kTimeout, kTooLong, kClosed };

  Connection(Fd fd, std::unique_ptr<TlsSession> tls, std::chrono::milliseconds read_timeout,
             std::chrono::milliseconds write_timeout);
  ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool handshake();  // true at once without TLS
  // True when the next request's first byte is here; false when the peer left, end_input() was called or time is up.
  bool wait_for_request(std::chrono::milliseconds timeout);

  void begin_head();
  void begin_body(bool has_body);  // without one, reads give 0 until the next head
  void stop_reading();             // every later read fails: what follows is not worth reading

  // At least one byte, or -1 (failure() says why), or 0 at the end of the stream.
  std::ptrdiff_t read(char* data, std::size_t size);
  bool readable() const { return begin_ < end_; }  // without waiting
  // All bytes or false.
  bool write(const char* data, std::size_t size);

  Failure failure() const { return failure_; }
  std::size_t head_bytes() const { return head_bytes_; }
  std::uint64_t bytes_written() const { return bytes_written_; }

  // Says that the stream ends here on purpose, lets the peer read what was sent (see kLinger), closes.
  void finish();

  void reset_on_close();  // the peer sees an error instead of an end

  bool peer_gone() const;
  void end_input();  // wakes wait_for_request(); a request already in is still answered
  void cut();        // every read and write fails from now on

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
  std::size_t head_bytes_ = 0;
  std::uint64_t bytes_written_ = 0;
  Failure failure_ = Failure::kNone;
  std::atomic<bool> cut_{false};
};

}  // namespace celslm
