// A thread that does the same thing again and again, with pauses.
#pragma once

#include <algorithm>
#include <functional>
#include <stop_token>
#include <thread>

#include "core/clock.h"
#include "core/mutex.h"
#include "core/timed_condition.h"

namespace celslm {

// Pauses that double from one failure to the next.
class Backoff {
 public:
  // usual: behind what has been done; longest: however often it fails, but not less than `usual`.
  Backoff(Duration usual, Duration longest) : usual_(usual), longest_(std::max(usual, longest)), pause_(usual) {}
  Duration after(bool done) { return pause_ = done ? usual_ : std::min(longest_, 2 * pause_); }

 private:
  const Duration usual_;
  const Duration longest_;
  Duration pause_;
};

// start() and stop() are for one thread, wake() for any. The clock must outlive this. A member that its steps use must be
// declared before it: the destructor waits for the step under way.
class PacedThread {
 public:
  // One step; returns the pause behind it. `stop`: that of the thread.
  using Step = std::function<Duration(const std::stop_token& stop)>;

  explicit PacedThread(const Clock& clock) : woken_(clock) {}
  ~PacedThread() { stop(); }
  PacedThread(const PacedThread&) = delete;
  PacedThread& operator=(const PacedThread&) = delete;

  void start(Step step);
  // Ends the pause at once, and waits for the step under way. Returns whether there was a thread.
  bool stop();
  // The next step begins now, or as soon as the one under way has ended.
  void wake() CELSLM_EXCLUDES(mutex_);

 private:
  void run(const Step& step, const std::stop_token& stop) CELSLM_EXCLUDES(mutex_);

  Mutex mutex_;
  TimedCondition woken_;
  bool wake_ CELSLM_GUARDED_BY(mutex_) = false;
  std::jthread thread_;
};

}  // namespace celslm
