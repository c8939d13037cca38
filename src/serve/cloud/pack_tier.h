// Packs that the clouds of a fleet keep in the store, beside their disks: one that no living cloud has need not be computed
// again. Bounded in bytes and in time.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <stop_token>
#include <string>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/paced_thread.h"
#include "core/result.h"
#include "fleet/directory/keys.h"
#include "fleet/store/store.h"
#include "kv/pack/signing.h"
#include "serve/cloud/pack_compute.h"
#include "serve/cloud/pack_job.h"

namespace celslm {

struct PackTierParts {
  std::unique_ptr<Store> store;    // of the thread
  std::unique_ptr<Store> reading;  // of those who fetch
  FleetKeys keys;
  std::uint64_t limit_bytes = 0;  // of all packs of the fleet in the store
  Duration beat;
  const SigningKey& key;
};

// Headers must be signed with the fleet's key, and blocks must hash to what the header lists, as everywhere. Nothing is
// displaced: where a pack does not fit it is not kept, and each goes when its time is over. Several clouds that write at the
// same time may pass the limit by a pack each.
//
// keep(), has() and fetch() are thread-safe; only fetch() waits for the store, and only for a pack that was listed there.
class PackTier {
 public:
  static constexpr Duration kKept = std::chrono::hours(1);
  static constexpr std::size_t kMaxPacks = 10'000;
  static constexpr std::size_t kMaxBlockBytes = 16U << 20;  // a block of more is not kept
  static constexpr std::size_t kMaxWaiting = 4;             // packs to be written; further ones are not kept

  PackTier(PackTierParts parts, const Clock& clock, Log log);

  void start();
  void stop() { thread_.stop(); }

  // Writes a pack that was computed here when there is time.
  void keep(StoredPack pack) CELSLM_EXCLUDES(mutex_);
  bool has(const Hash256& pack_id) const CELSLM_EXCLUDES(mutex_);  // as of the last step
  // As fetch_pack(), from the store.
  Result<StoredPack> fetch(PackJob& job, PackStorage& storage, std::stop_token stop) CELSLM_EXCLUDES(reading_mutex_);
  std::uint64_t bytes() const CELSLM_EXCLUDES(mutex_);  // of the packs listed

  // Writes what waits and reads the list, now. Errors of Store's calls.
  Status step() CELSLM_EXCLUDES(mutex_);

 private:
  Status read_list() CELSLM_EXCLUDES(mutex_);
  Status write(const StoredPack& pack) CELSLM_EXCLUDES(mutex_);
  std::string header_key(const Hash256& pack_id) const { return parts_.keys.pack(pack_id.hex()); }
  std::string block_key(const Hash256& pack_id, int block) const;
  Status read_blocks(const PackJob& job, const PackHeader& header, PackWriter& writer, std::stop_token stop)
      CELSLM_REQUIRES(reading_mutex_);

  const PackTierParts parts_;
  const Log log_;
  Mutex reading_mutex_;
  mutable Mutex mutex_;
  std::deque<StoredPack> waiting_ CELSLM_GUARDED_BY(mutex_);
  std::set<Hash256> listed_ CELSLM_GUARDED_BY(mutex_);
  std::uint64_t bytes_ CELSLM_GUARDED_BY(mutex_) = 0;
  PacedThread thread_;
};

}  // namespace celslm
