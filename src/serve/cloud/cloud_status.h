// GET /v1/status at a cloud: its models, contexts, jobs, packs and edges, for people's pages. docs/http-protocol.md
// describes it.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "core/mutex.h"
#include "net/access/caller.h"
#include "serve/cloud/context_registry.h"
#include "serve/cloud/edge_sightings.h"
#include "serve/cloud/pack_catalog.h"
#include "serve/cloud/pack_jobs.h"

namespace celslm {

// What the status is about; all of it outlives it.
struct CloudStatusParts {
  const ContextRegistry& contexts;
  PackCatalog& catalog;
  PackJobs& jobs;
  const SignedPackStorage& storage;
  const EdgeSightings& edges;
};

// Thread-safe. The header of a pack is read once, and a context tokenized once, however often the status is asked for.
class CloudStatus {
 public:
  explicit CloudStatus(CloudStatusParts parts) : parts_(parts) {}
  // What the caller may see: all of it, or the contexts of one tenant.
  nlohmann::json get(const Caller& caller) CELSLM_EXCLUDES(mutex_);

 private:
  struct Pack {
    PackIdentity identity;  // without its tokens
    int n_tokens = 0;
  };
  void learn_names() CELSLM_REQUIRES(mutex_);
  const Pack* pack(const PackStore::Listing& listing) CELSLM_REQUIRES(mutex_);
  nlohmann::json packs() CELSLM_REQUIRES(mutex_);
  nlohmann::json jobs() const CELSLM_REQUIRES(mutex_);
  // "model", "codec", "provenance", "context_id", "context_name"
  nlohmann::json describe(const PackIdentity& identity) const CELSLM_REQUIRES(mutex_);

  const CloudStatusParts parts_;
  Mutex mutex_;
  std::map<Hash256, std::optional<Pack>> packs_ CELSLM_GUARDED_BY(mutex_);       // by pack id; nothing for a damaged one
  std::map<ContextHandle, std::vector<Hash256>> ids_ CELSLM_GUARDED_BY(mutex_);  // contexts whose ids are known
  std::map<Hash256, std::string> names_ CELSLM_GUARDED_BY(mutex_);               // of contexts, by ContextId
};

}  // namespace celslm
