// SIGINT and SIGTERM as a request to stop, SIGHUP as one to open files again.
#pragma once

#include <atomic>
#include <functional>
#include <stop_token>
#include <thread>

#include "core/mutex.h"
#include "core/result.h"

namespace celslm {

// Create it before any other thread starts: it blocks the signals in all threads and receives them on one of its own.
//
// Until a command arms it, a signal ends the process as by default (there is nothing to lose while models load). Once
// armed, the first signal requests a stop through stop(), the second ends the process immediately. Thread-safe.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  // From now on a signal requests a stop instead of ending the process.
  void arm();
  std::stop_token stop() const { return stop_.get_token(); }
  // Blocks until a stop is requested.
  void wait();
  // `call` runs for each SIGHUP from now on, on this object's thread; without it SIGHUP ends the process as by default.
  void on_hangup(std::function<void()> call) CELSLM_EXCLUDES(mutex_);
  // As if a signal had come; for tests and for programs that end on their own.
  void request_stop();

 private:
  void watch();
  void take(int signal);
  void hang_up() CELSLM_EXCLUDES(mutex_);

  int signal_fd_ = -1;
  int end_fd_ = -1;  // wakes the thread for good
  std::stop_source stop_;
  std::atomic<bool> armed_ = false;
  Mutex mutex_;
  std::function<void()> on_hangup_ CELSLM_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace celslm
