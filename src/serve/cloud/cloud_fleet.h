// A cloud in its fleet: what it tells the others of itself.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/lru.h"
#include "core/mutex.h"
#include "fleet/directory/member.h"
#include "serve/cloud/cloud_metrics.h"
#include "serve/cloud/context_registry.h"
#include "serve/cloud/pack_catalog.h"
#include "serve/cloud/pack_fetch.h"
#include "serve/cloud/pack_jobs.h"
#include "serve/cloud/pack_tier.h"
#include "serve/cloud/shared_contexts.h"
#include "serve/cloud/shared_work.h"
#include "serve/fleet/fleet_parts.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

// What it looks at; all of it outlives it.
struct CloudFleetParts {
  ContextRegistry& contexts;
  PackCatalog& catalog;
  PackJobs& jobs;
  const SignedPackStorage& storage;
  const CloudMetrics& metrics;
  const std::vector<CodecId>& codecs;  // offered
  const SigningKey& key;
  PackStorage& packs;
  // A client of another cloud, whose packs must be signed with this cloud's key. The address is somebody else's word: no
  // token may be sent there that was meant for another node. Empty: nothing is fetched from other clouds.
  std::function<Result<std::shared_ptr<CloudClient>>(const std::string& url)> connect;
};

// Thread-safe but for start() and stop().
class CloudFleet {
 public:
  CloudFleet(FleetParts fleet, CloudFleetParts parts, const Clock& clock, const Log& log);

  // Begins to take part; url: where the cloud listens.
  void start(const std::string& url) CELSLM_EXCLUDES(mutex_);
  void stop();
  // Something was registered or removed: the others are told now.
  void contexts_changed() { member_->wake(); }
  const Member& member() const { return *member_; }

  // As PackJobsOptions::fetch: from one of two other clouds that hold it, else from the shared tier. Thread-safe.
  Result<StoredPack> fetch(PackJob& job, std::stop_token stop) CELSLM_EXCLUDES(mutex_);
  // As PackJobsOptions::on_wait: a cloud that has nothing to do may compute it. Thread-safe; does not wait.
  void offer(const PackIdentity& identity);
  // As PackJobsOptions::on_computed: into the shared tier, if there is one. Thread-safe; does not wait.
  void keep(const StoredPack& pack);

 private:
  struct KnownPack {
    Hash256 pack_id;
    Hash256 model;
  };
  std::optional<FleetSelf> describe() CELSLM_EXCLUDES(mutex_);
  std::vector<HeldPack> held();
  void learn_packs();
  std::optional<HeldPack> name_of(const PackIdentity& identity) const;
  Result<StoredPack> fetch_from_cloud(PackJob& job, std::stop_token stop) CELSLM_EXCLUDES(mutex_);
  std::vector<std::string> holders(const HeldPack& wanted) const;
  std::shared_ptr<CloudClient> client_of(const std::string& url) CELSLM_EXCLUDES(mutex_);

  const CloudFleetParts parts_;
  // Of the member's thread.
  SharedContexts shared_;
  // The packs that there may be of a context. Which one a file is follows from its tokens.
  std::map<ContextHandle, std::vector<KnownPack>> packs_;
  Mutex mutex_;
  Lru<std::string, std::shared_ptr<CloudClient>> clients_ CELSLM_GUARDED_BY(mutex_);  // by url
  std::string url_ CELSLM_GUARDED_BY(mutex_);
  std::unique_ptr<Member> member_;    // its thread uses the above
  std::unique_ptr<SharedWork> work_;  // null without a store for it; its thread uses the above
  std::unique_ptr<PackTier> tier_;    // null without
};

}  // namespace celslm
