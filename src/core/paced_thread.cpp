#include "core/paced_thread.h"

#include <utility>

namespace celslm {

void PacedThread::start(Step step) {
  thread_ = std::jthread([this, step = std::move(step)](const std::stop_token& stop) { run(step, stop); });
}

bool PacedThread::stop() {
  if (!thread_.joinable()) return false;
  thread_.request_stop();
  thread_.join();
  return true;
}

void PacedThread::wake() {
  {
    const MutexLock lock(mutex_);
    wake_ = true;
  }
  woken_.notify_all();
}

void PacedThread::run(const Step& step, const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const Duration pause = step(stop);
    const MutexLock lock(mutex_);
    woken_.wait_for(mutex_, stop, pause, [&]() CELSLM_REQUIRES(mutex_) { return wake_; });
    wake_ = false;
  }
}

}  // namespace celslm
