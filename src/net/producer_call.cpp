#include "net/producer_call.h"

#include <utility>

namespace celslm {

void ProducerCall::set(std::function<void()> call) {
  const MutexLock lock(mutex_);
  call_ = std::make_shared<const std::function<void()>>(std::move(call));
}

void ProducerCall::release() {
  std::shared_ptr<const std::function<void()>> released;  // may own its caller: destroyed without the lock
  const MutexLock lock(mutex_);
  released = std::move(call_);
}

void ProducerCall::notify_and_release() {
  {
    const MutexLock lock(mutex_);
    last_ = true;
  }
  notify();
}

void ProducerCall::notify() {
  {
    const MutexLock lock(mutex_);
    if (!call_ || state_ == State::kDue || state_ == State::kRunningAndDue) return;
    if (state_ == State::kRunning) {
      state_ = State::kRunningAndDue;
      return;
    }
    state_ = State::kDue;
  }
  run_([self = shared_from_this()] { self->run(); });
}

void ProducerCall::run() {
  for (bool more = true; more;) {
    std::shared_ptr<const std::function<void()>> call;
    {
      const MutexLock lock(mutex_);
      state_ = State::kRunning;
      call = last_ ? std::move(call_) : call_;
    }
    if (call) (*call)();
    const MutexLock lock(mutex_);
    more = state_ == State::kRunningAndDue;
    if (!more) state_ = State::kQuiet;
  }
}

}  // namespace celslm
