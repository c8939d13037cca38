#include "core/process_memory.h"

#include <algorithm>

namespace celslm {

ProcessMemory::ProcessMemory(MemoryLedger& ledger) : program_(ledger.note("program", 0)), model_(ledger.note("model", 0)) {
  started();
}

std::uint64_t ProcessMemory::since_last(const ResidentMemory& now) {
  const std::uint64_t out = now.anonymous_bytes - std::min(now.anonymous_bytes, last_anonymous_);
  last_anonymous_ = now.anonymous_bytes;
  return out;
}

void ProcessMemory::model_loaded() {
  const ResidentMemory now = resident_memory();
  const MutexLock lock(mutex_);
  model_anonymous_ += since_last(now);
  model_.resize_over_limit(model_anonymous_ + now.mapped_bytes);
}

void ProcessMemory::counted_elsewhere(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  last_anonymous_ += bytes;
}

void ProcessMemory::started() {
  const ResidentMemory now = resident_memory();
  const MutexLock lock(mutex_);
  program_.resize_over_limit(program_.bytes() + since_last(now));
}

void ProcessMemory::update() {
  const ResidentMemory now = resident_memory();
  const MutexLock lock(mutex_);
  model_.resize_over_limit(model_anonymous_ + now.mapped_bytes);
}

std::uint64_t ProcessMemory::bytes() const {
  const MutexLock lock(mutex_);
  return program_.bytes() + model_.bytes();
}

}  // namespace celslm
