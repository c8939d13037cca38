// Packs that one cloud of a fleet has no time for, computed by another that has: a stream in the store, of which any cloud
// takes an entry, and another takes it over when that one dies.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/paced_thread.h"
#include "core/result.h"
#include "fleet/directory/held_packs.h"
#include "fleet/directory/keys.h"
#include "fleet/store/store.h"
#include "serve/cloud/pack_catalog.h"
#include "serve/cloud/pack_jobs.h"

namespace celslm {

struct WorkItem {
  HeldPack pack;
  std::string codec;
  bool operator==(const WorkItem&) const = default;
};
std::string to_json_text(const WorkItem& item);
Result<WorkItem> parse_work_item(std::string_view text);  // kInvalid, naming the field

struct SharedWorkParts {
  PackCatalog& catalog;
  PackJobs& jobs;
  const std::vector<CodecId>& codecs;  // offered
  FleetKeys keys;
  Duration beat;  // of the fleet
};

// An entry names a pack by context, model and codec: what is not registered or hosted here is left to others, so whoever
// writes into the stream can have packs computed that anybody may ask for, and no others. A cloud takes an entry only while
// it has nothing to do, computes it as if it had been asked for, and announces it with what else it holds; who offered the
// entry then fetches it when it would have been its turn (PackJobsOptions::fetch).
//
// offer() is thread-safe; the rest is for one thread, which start() makes.
class SharedWork {
 public:
  static constexpr std::size_t kMaxOffers = 64;      // that wait to be written; the newest are dropped
  static constexpr std::size_t kMaxEntries = 1000;   // of the stream
  static constexpr std::int64_t kMaxDeliveries = 3;  // an entry that ends those who take it is given up

  SharedWork(std::unique_ptr<Store> store, SharedWorkParts parts, const Clock& clock, Log log);

  void start();
  void stop() { thread_.stop(); }
  void offer(WorkItem item) CELSLM_EXCLUDES(mutex_);

  // One look at offers and stream, now. Errors of Store's calls.
  Status step() CELSLM_EXCLUDES(mutex_);

 private:
  struct Taken {
    std::string id;
    Hash256 pack_id;
  };
  Status write_offers() CELSLM_EXCLUDES(mutex_);
  Status look_after(const Taken& taken);
  Status take_one();
  Result<std::optional<Store::Entry>> next();
  Result<Hash256> begin(const WorkItem& item);
  Duration silence() const { return 3 * parts_.beat; }  // after which a taker counts as dead

  const std::unique_ptr<Store> store_;
  const SharedWorkParts parts_;
  const Log log_;
  const std::string consumer_;
  std::optional<Taken> taken_;  // being computed here
  Mutex mutex_;
  std::deque<WorkItem> offers_ CELSLM_GUARDED_BY(mutex_);
  PacedThread thread_;
};

}  // namespace celslm
