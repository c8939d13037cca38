#include "serve/load/disk_thread.h"

#include <system_error>
#include <utility>

namespace celslm {

DiskThread::DiskThread(std::size_t max_bytes, std::shared_ptr<MemoryLedger> ledger)
    : max_bytes_(max_bytes), ledger_(ledger ? std::move(ledger) : std::make_shared<MemoryLedger>()) {}

DiskThread::~DiskThread() {
  std::thread thread;
  {
    const MutexLock lock(mutex_);
    ending_ = true;
    thread = std::move(thread_);
  }
  changed_.notify_all();
  if (thread.joinable()) thread.join();
}

bool DiskThread::start() {
  if (thread_.joinable()) return true;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

Result<MemoryLease> DiskThread::take(std::size_t bytes) const {
  return ledger_->take("rows for the disk", bytes);
}

bool DiskThread::post(std::size_t bytes, std::function<void()> work) {
  auto memory = take(bytes);
  const MutexLock lock(mutex_);
  if (!memory || bytes > max_bytes_ - bytes_ || !start()) return false;
  queue_.push_back({*std::move(memory), bytes, std::move(work)});
  bytes_ += bytes;
  changed_.notify_all();
  return true;
}

void DiskThread::run() {
  MutexLock lock(mutex_);
  for (;;) {
    changed_.wait(mutex_, [this]() CELSLM_REQUIRES(mutex_) { return ending_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Work work = std::move(queue_.front());
    queue_.pop_front();
    running_ = true;
    lock.unlock();
    work.run();
    work.run = nullptr;  // what it held is gone before it counts as done
    work.memory.release();
    lock.lock();
    running_ = false;
    bytes_ -= work.bytes;
    if (is_idle()) changed_.notify_all();
  }
}

bool DiskThread::idle() const {
  const MutexLock lock(mutex_);
  return is_idle();
}

void DiskThread::wait_until_idle() const {
  const MutexLock lock(mutex_);
  changed_.wait(mutex_, [this]() CELSLM_REQUIRES(mutex_) { return is_idle(); });
}

}  // namespace celslm
