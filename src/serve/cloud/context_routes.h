// The routes of a cloud by which texts are registered, listed, read and removed.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "core/log.h"
#include "core/result.h"
#include "net/http_server.h"
#include "serve/cloud/cloud_metrics.h"
#include "serve/cloud/context_registry.h"
#include "serve/cloud/edge_sightings.h"
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
  CodecId prefill_codec;  // of packs computed at registration
  Log log;
};

// Thread-safe.
class ContextRoutes {
 public:
  explicit ContextRoutes(ContextRoutesParts parts) : parts_(std::move(parts)) {}
  void add_to(HttpServer& server);

 private:
  HttpResponse put(const HttpRequest& request);
  HttpResponse list() const;
  HttpResponse get(const HttpRequest& request) const;
  HttpResponse study(const HttpRequest& request) const;
  HttpResponse remove(const HttpRequest& request);
  // Which models can take this text: the "models" of an answer. kInvalid with every model's reason if none can.
  Result<nlohmann::json> models_for(std::string_view text);
  // With what is offered of it.
  ContextInfo complete(ContextInfo info) const;
  // What KV there is of a context besides the models' own, and what its gate measured: the "guidance" of an answer.
  nlohmann::json guidance(const ContextHandle& handle) const;
  void begin_prefill(const ContextHandle& handle);

  const ContextRoutesParts parts_;
};

}  // namespace celslm
