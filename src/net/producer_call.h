// A callback that a producer set once, called from elsewhere: one call at a time, and released when it is done with.
#pragma once

#include <functional>
#include <memory>

#include "core/mutex.h"

namespace celslm {

// Runs a function soon on a thread that may block shortly, not from within the call.
using RunSoon = std::function<void(std::function<void()>)>;

// Thread-safe.
class ProducerCall : public std::enable_shared_from_this<ProducerCall> {
 public:
  explicit ProducerCall(RunSoon run) : run_(std::move(run)) {}

  void set(std::function<void()> call) CELSLM_EXCLUDES(mutex_);
  // Calls soon; calls that are due at the same time become one.
  void notify() CELSLM_EXCLUDES(mutex_);
  // No further call begins; the callback is released, once a running call has returned.
  void release() CELSLM_EXCLUDES(mutex_);
  // The same after one last call.
  void notify_and_release() CELSLM_EXCLUDES(mutex_);

 private:
  enum class State { kQuiet, kDue, kRunning, kRunningAndDue };
  void run() CELSLM_EXCLUDES(mutex_);

  const RunSoon run_;
  Mutex mutex_;
  State state_ CELSLM_GUARDED_BY(mutex_) = State::kQuiet;
  bool last_ CELSLM_GUARDED_BY(mutex_) = false;  // the next call is the last
  std::shared_ptr<const std::function<void()>> call_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
