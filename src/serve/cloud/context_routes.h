// The routes of a cloud by which texts are registered, listed, read and removed.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "core/log.h"
#include "core/result.h"
#include "net/access/audit_log.h"
#include "net/http_server.h"
#include "serve/cloud/cloud_metrics.h"
#include "serve/cloud/context_registry.h"
#include "serve/cloud/edge_sightings.h"
#include "serve/cloud/held_lists.h"
#include "serve/cloud/pack_catalog.h"
#include "serve/cloud/pack_jobs.h"
#include "serve/cloud/studied_library.h"
#include "serve/cloud/study_jobs.h"

namespace celslm {

// What the routes are about; all of it outlives them.
struct ContextRoutesParts {
  ContextRegistry& contexts;
  PackCatalog& catalog;
  PackJobs& jobs;
  const StudiedLibrary& studied;
  StudyJobs* studies;  // null: contexts are not studied
  CloudMetrics& metrics;
  EdgeSightings& edges;
  HeldLists& held;
  CodecId prefill_codec;            // of packs computed at registration
  std::shared_ptr<AuditLog> audit;  // or null
  Log log;
};

// Thread-safe.
class ContextRoutes {
 public:
  explicit ContextRoutes(ContextRoutesParts parts) : parts_(std::move(parts)) {}
  void add_to(HttpServer& server);
  // The list as an edge gets it that knows it as of `since` (empty: not at all), now: 304 if that is its state.
  HttpResponse list_since(const std::string& since);

 private:
  HttpResponse put(const HttpRequest& request);
  HttpResponse list(const HttpRequest& request);
  // The complete list as JSON, made once for each revision: after a restart of the cloud all its edges ask for it.
  HttpResponse complete_list() CELSLM_EXCLUDES(mutex_);
  HttpResponse get(const HttpRequest& request) const;
  HttpResponse study(const HttpRequest& request) const;
  HttpResponse remove(const HttpRequest& request);
  std::vector<Hash256> models_on_device() const;
  // Which models can take this text: the "models" of an answer. kInvalid with every model's reason if none can.
  Result<nlohmann::json> models_for(std::string_view text, const std::string& tenant);
  // One tenant's contexts, for a caller that may not know what else there is, nor when something of it changes.
  HttpResponse list_of(const std::string& tenant, const HttpRequest& request);
  // With what is offered of it.
  ContextInfo complete(ContextInfo info) const;
  // What KV there is of a context besides the models' own, and what its gate measured: the "guidance" of an answer.
  nlohmann::json guidance(const ContextHandle& handle) const;
  void begin_prefill(const ContextHandle& handle);

  const ContextRoutesParts parts_;
  Mutex mutex_;
  std::string complete_revision_ CELSLM_GUARDED_BY(mutex_);
  std::string complete_body_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
