// A state's parts on their way into a context's memory.
#pragma once

#include "core/mutex.h"
#include "core/result.h"
#include "kv/pack/pack.h"
#include "kv/pack/verified_block.h"
#include "model/kv/kv_segment.h"

namespace celslm {

// Collects the parts of a pack of codec opaque. Thread-safe; identity and segment must outlive it.
class StateParts {
 public:
  StateParts(const PackIdentity& identity, KvSegment& segment) : identity_(identity), segment_(segment) {}

  // Each part once; with the last one the segment has the state, and libllama reads it when a request needs it. The identity
  // bounds its size.
  Status add(const VerifiedBlock& block) CELSLM_EXCLUDES(mutex_);

 private:
  const PackIdentity& identity_;
  KvSegment& segment_;
  Mutex mutex_;
  Bytes state_ CELSLM_GUARDED_BY(mutex_);
  int n_parts_ CELSLM_GUARDED_BY(mutex_) = 0;
};

}  // namespace celslm
