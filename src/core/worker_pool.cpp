#include "core/worker_pool.h"

#include <system_error>
#include <utility>

namespace celslm {

Status WorkerPool::start(int n_threads) {
  try {
    for (int i = 0; i < n_threads; ++i) {
      {
        const MutexLock lock(mutex_);
        ++idle_;
      }
      threads_.emplace_back([this] { work(); });
    }
  } catch (const std::system_error& e) {
    finish();
    return fail(ErrorKind::kOverloaded, "cannot start {} threads: {}: configure fewer", n_threads, e.what());
  }
  return {};
}

bool WorkerPool::try_run(Task task) {
  const MutexLock lock(mutex_);
  if (finishing_ || queue_.size() >= idle_ + max_queued_) return false;
  queue_.push_back(std::move(task));
  arrived_.notify_one();
  return true;
}

void WorkerPool::run(Task task) {
  {
    const MutexLock lock(mutex_);
    if (!finished_) {
      queue_.push_back(std::move(task));
      arrived_.notify_one();
      return;
    }
  }
  task();
}

void WorkerPool::work() {
  MutexLock lock(mutex_);
  while (true) {
    const auto done = [&]() CELSLM_REQUIRES(mutex_) { return finishing_ && running_ == 0; };
    arrived_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return !queue_.empty() || done(); });
    if (queue_.empty()) break;
    Task task = std::move(queue_.front());
    queue_.pop_front();
    --idle_;
    ++running_;
    lock.unlock();
    task();
    task = {};
    lock.lock();
    --running_;
    ++idle_;
  }
  arrived_.notify_all();
}

void WorkerPool::finish() {
  {
    const MutexLock lock(mutex_);
    finishing_ = true;
    arrived_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  std::deque<Task> late;
  {
    const MutexLock lock(mutex_);
    finished_ = true;
    late = std::exchange(queue_, {});
  }
  for (const Task& task : late) task();
}

}  // namespace celslm
