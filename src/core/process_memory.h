// What a server's process takes before it does anything: the program, and its model.
#pragma once

#include <cstdint>

#include "core/memory_ledger.h"
#include "core/memory_limit.h"
#include "core/mutex.h"

namespace celslm {

// Measures, since nobody counts what libraries allocate: what the process has when this is made, and what has come by
// model_loaded() and started(). Mapped pages count as the model, since all but a few megabytes of them are. Thread-safe; the
// ledger must outlive this.
class ProcessMemory {
 public:
  explicit ProcessMemory(MemoryLedger& ledger);

  // What has come since the last measurement is the model's.
  void model_loaded() CELSLM_EXCLUDES(mutex_);
  // ... is the program's.
  void started() CELSLM_EXCLUDES(mutex_);
  // So many of the bytes that have come since the last measurement are in other accounts: it does not count them.
  void counted_elsewhere(std::uint64_t bytes) CELSLM_EXCLUDES(mutex_);
  // The mapped pages that are in memory now: more of a model's file comes with use.
  void update() CELSLM_EXCLUDES(mutex_);

  std::uint64_t bytes() const CELSLM_EXCLUDES(mutex_);

 private:
  std::uint64_t since_last(const ResidentMemory& now) CELSLM_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::uint64_t last_anonymous_ CELSLM_GUARDED_BY(mutex_) = 0;
  std::uint64_t model_anonymous_ CELSLM_GUARDED_BY(mutex_) = 0;
  MemoryLease program_ CELSLM_GUARDED_BY(mutex_);
  MemoryLease model_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
