// One pack while it is being computed: what has been announced so far, and waiting for more.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/bytes.h"
#include "core/mutex.h"
#include "core/result.h"
#include "kv/pack/pack.h"
#include "kv/store/pack_store.h"

namespace celslm {

// Written by one computing thread, read by any number of threads; thread-safe. A job ends exactly once, with complete() or
// fail(). What has been announced can be read as long as the job is referenced, unless it fails.
class PackJob {
 public:
  PackJob(PackIdentity identity, Hash256 pack_id, Bytes preamble);

  const PackIdentity identity;
  const Hash256 pack_id;
  const Bytes preamble;  // signed

  // Readers.

  // Encoded signed entries (kSignedEntryBytes each) from number `from` on, waiting up to `patience` for the first of them.
  // Empty: none came in that time, or `from` is behind the last. The job's error once it has failed.
  Result<Bytes> entries(int from, std::chrono::milliseconds patience) const;
  // True once the job has ended well, waiting up to `patience` for that. The job's error once it has failed.
  Result<bool> wait_complete(std::chrono::milliseconds patience) const;
  // `changed` is called after each announcement and after the end, by the computing thread, without locks; at least once
  // more if something changes while this is called. For readers that do not wait on a thread. Returns what unfollow() takes.
  int follow(std::function<void()> changed);
  void unfollow(int follower);
  int announced() const;                  // blocks
  std::uint64_t announced_bytes() const;  // of the block region, from its start
  // Bytes of the block region from `offset` to the end of the block it lies in. kNotFound if that has not been announced;
  // the job's error once it has failed.
  Result<Bytes> read(std::uint64_t offset) const;

  // The computing thread.

  void begin(std::shared_ptr<PackWriter> writer);
  // The blocks that follow those announced so far, all put into the writer.
  void announce(std::span<const SignedEntry> next);
  void complete(StoredPack pack);
  void fail(Error error);

 private:
  void notify();

  mutable Mutex mutex_;
  mutable ConditionVariable changed_;
  std::shared_ptr<PackWriter> writer_ CELSLM_GUARDED_BY(mutex_);  // gone once the job has ended
  Bytes entries_ CELSLM_GUARDED_BY(mutex_);                       // encoded
  std::vector<BlockEntry> table_ CELSLM_GUARDED_BY(mutex_);       // the same
  std::optional<StoredPack> stored_ CELSLM_GUARDED_BY(mutex_);
  std::optional<Error> error_ CELSLM_GUARDED_BY(mutex_);
  std::map<int, std::shared_ptr<const std::function<void()>>> followers_ CELSLM_GUARDED_BY(mutex_);
  int next_follower_ CELSLM_GUARDED_BY(mutex_) = 0;
};

}  // namespace celslm
