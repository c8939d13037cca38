#include "serve/load/load_timer.h"

#include <utility>

namespace celslm {
namespace {

constexpr Duration kLong = std::chrono::hours(1);

}  // namespace

Status LoadTimer::start() {
  const MutexLock lock(mutex_);
  if (thread_.joinable()) return {};
  CELSLM_TRY(thread_, spawn_([this](const std::stop_token& stop) { run(stop); }));
  return {};
}

void LoadTimer::call_at(TimePoint when, std::function<void()> call) {
  const MutexLock lock(mutex_);
  const bool first = calls_.empty() || when < calls_.begin()->first;
  calls_.emplace(when, std::move(call));
  if (first) changed_.notify_all();
}

void LoadTimer::run(const std::stop_token& stop) {
  MutexLock lock(mutex_);
  while (!stop.stop_requested()) {
    if (!due()) {
      const TimePoint until = calls_.empty() ? clock_.now() + kLong : calls_.begin()->first;
      const Duration wait = until - clock_.now();
      changed_.wait_for(mutex_, stop, wait, [&]() CELSLM_REQUIRES(mutex_) {
        return due() || (!calls_.empty() && calls_.begin()->first < until);
      });
      continue;
    }
    const auto call = calls_.extract(calls_.begin());
    lock.unlock();
    call.mapped()();
    lock.lock();
  }
}

}  // namespace celslm
