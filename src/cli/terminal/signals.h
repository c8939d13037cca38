// SIGINT and SIGTERM as a request to stop.
#pragma once

#include <atomic>
#include <stop_token>
#include <thread>

#include "core/result.h"

namespace celslm {

// Make one before any other thread starts: it blocks the two signals for all of them and takes them on a thread of its own.
//
// Until a command arms it, a signal ends the process as if nobody watched (there is nothing to lose while models load). Once
// armed, the first signal stops stop(), the second ends the process at once. Thread-safe.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  // From now on a signal asks to stop instead of ending the process.
  void arm();
  std::stop_token stop() const { return stop_.get_token(); }
  // Until a stop was asked for.
  void wait();
  // As if a signal had come; for tests and for programs that end by themselves.
  void request_stop();

 private:
  void watch();
  void take(int signal);

  int signal_fd_ = -1;
  int end_fd_ = -1;  // wakes the thread for good
  std::stop_source stop_;
  std::atomic<bool> armed_ = false;
  std::thread thread_;
};

}  // namespace celslm
