// The thread that writes to an edge's disk.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>

#include "core/memory_ledger.h"
#include "core/mutex.h"

namespace celslm {

// Runs pieces of work one after the other, for all loads of an edge, so that nobody else waits for a disk that is slow or
// hangs. Thread-safe. The thread is made with the first piece; destruction waits until all are done.
class DiskThread {
 public:
  static constexpr std::size_t kMaxBytes = std::size_t{64} << 20;

  // ledger: what waits counts in it, as "rows for the disk"; null: it counts nowhere.
  explicit DiskThread(std::size_t max_bytes = kMaxBytes, std::shared_ptr<MemoryLedger> ledger = {});
  ~DiskThread();
  DiskThread(const DiskThread&) = delete;
  DiskThread& operator=(const DiskThread&) = delete;

  // Work that holds so many bytes until it is done. False, with nothing queued, where more than max_bytes would then be
  // held, or more than the ledger has, or no thread can be had. Never waits. Work is also destroyed on the thread.
  bool post(std::size_t bytes, std::function<void()> work) CELSLM_EXCLUDES(mutex_);

  // For bytes that are to become such work. kOverloaded where the ledger has no room.
  Result<MemoryLease> take(std::size_t bytes) const;

  bool idle() const CELSLM_EXCLUDES(mutex_);
  void wait_until_idle() const CELSLM_EXCLUDES(mutex_);

 private:
  struct Work {
    MemoryLease memory;
    std::size_t bytes = 0;
    std::function<void()> run;
  };
  bool start() CELSLM_REQUIRES(mutex_);
  void run() CELSLM_EXCLUDES(mutex_);
  bool is_idle() const CELSLM_REQUIRES(mutex_) { return queue_.empty() && !running_; }

  const std::size_t max_bytes_;
  const std::shared_ptr<MemoryLedger> ledger_;
  mutable Mutex mutex_;
  mutable ConditionVariable changed_;
  std::deque<Work> queue_ CELSLM_GUARDED_BY(mutex_);
  std::size_t bytes_ CELSLM_GUARDED_BY(mutex_) = 0;  // of the queue and of what is running
  bool running_ CELSLM_GUARDED_BY(mutex_) = false;
  bool ending_ CELSLM_GUARDED_BY(mutex_) = false;
  std::thread thread_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
