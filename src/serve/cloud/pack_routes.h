// The routes of a cloud by which packs are fetched: header, entries, blocks, and the complete file.
#pragma once

#include <expected>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "net/access/audit_log.h"
#include "net/http_server.h"
#include "serve/cloud/cloud_metrics.h"
#include "serve/cloud/context_registry.h"
#include "serve/cloud/pack_catalog.h"
#include "serve/cloud/pack_job_stream.h"
#include "serve/cloud/pack_jobs.h"
#include "serve/cloud/studied_library.h"

namespace celslm {

// What the routes are about; all of it outlives them and the streams they return.
struct PackRoutesParts {
  const ContextRegistry& contexts;
  PackCatalog& catalog;
  PackJobs& jobs;
  StudiedLibrary& studied;
  PackStorage& storage;
  CloudMetrics& metrics;
  const SigningKey& key;
  const std::vector<CodecId>& codecs;  // offered
  WorkerPool& followers;               // as entries_response() takes it
  std::shared_ptr<AuditLog> audit;     // or null
};

// Thread-safe.
class PackRoutes {
 public:
  explicit PackRoutes(PackRoutesParts parts) : parts_(std::move(parts)) {}
  void add_to(HttpServer& server);

 private:
  template <typename T>
  using Answer = std::expected<T, HttpResponse>;  // or the documented refusal

  // Computes or, where it is studied, encodes the pack if need be; the others only read what there is.
  HttpResponse get_header(const HttpRequest& request);
  HttpResponse get_entries(const HttpRequest& request);
  HttpResponse get_blocks(const HttpRequest& request);
  HttpResponse get_pack(const HttpRequest& request);

  Answer<PackIdentity> wanted(const HttpRequest& request);  // the pack that the path names
  Answer<PackAccess> existing(const HttpRequest& request);  // the same, if something computes or holds it
  Result<CodecId> offered_codec(const std::string& name, const ModelFingerprint& model) const;
  OnSent meter(const char* part);

  const PackRoutesParts parts_;
};

}  // namespace celslm
