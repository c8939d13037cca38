// A fixed number of threads and a bounded queue before them.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "core/mutex.h"
#include "core/result.h"

namespace celslm {

// Thread-safe. Tasks must not throw.
class WorkerPool {
 public:
  using Task = std::function<void()>;

  explicit WorkerPool(std::size_t max_queued) : max_queued_(max_queued) {}
  ~WorkerPool() { finish(); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  Status start(int n_threads);  // kOverloaded if the threads cannot be made
  // Runs `task` on a free thread, or after those before it. False if max_queued wait already, or after finish().
  bool try_run(Task task) CELSLM_EXCLUDES(mutex_);
  // The same whatever waits, for tasks of which there are few; after finish() on the calling thread.
  void run(Task task) CELSLM_EXCLUDES(mutex_);
  // Runs what waits, ends the threads. Not from a task.
  void finish() CELSLM_EXCLUDES(mutex_);

 private:
  void work() CELSLM_EXCLUDES(mutex_);

  const std::size_t max_queued_;
  std::vector<std::thread> threads_;
  Mutex mutex_;
  ConditionVariable arrived_;
  std::deque<Task> queue_ CELSLM_GUARDED_BY(mutex_);
  std::size_t idle_ CELSLM_GUARDED_BY(mutex_) = 0;     // threads
  std::size_t running_ CELSLM_GUARDED_BY(mutex_) = 0;  // tasks, which may queue further ones
  bool finishing_ CELSLM_GUARDED_BY(mutex_) = false;
  bool finished_ CELSLM_GUARDED_BY(mutex_) = false;
};

}  // namespace celslm
