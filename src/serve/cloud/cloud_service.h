// The cloud: registered contexts, hosted models and their packs, over HTTP. docs/http-protocol.md is the specification.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/result.h"
#include "core/worker_pool.h"
#include "kv/pack/key_chain.h"
#include "net/access/audit_log.h"
#include "net/http_server.h"
#include "serve/cloud/cloud_fleet.h"
#include "serve/cloud/cloud_metrics.h"
#include "serve/cloud/cloud_status.h"
#include "serve/cloud/context_registry.h"
#include "serve/cloud/context_routes.h"
#include "serve/cloud/pack_catalog.h"
#include "serve/cloud/pack_jobs.h"
#include "serve/cloud/pack_routes.h"
#include "serve/cloud/studied_library.h"
#include "serve/cloud/study_jobs.h"

namespace celslm {

inline constexpr std::size_t kMaxCloudBodyBytes = 4 * kMaxContextBytes;  // a text as JSON, escaped; more would fill memory

struct CloudOptions {
  std::filesystem::path data_folder;  // contexts/, packs/ and signing.key are in it
  std::uint64_t pack_budget_bytes = 20ULL << 30;
  std::vector<CodecId> codecs;           // offered; empty: all
  std::filesystem::path studied_folder;  // studied contexts, docs/studied-format.md; empty: none
  PackJobsOptions jobs;
  std::optional<StudyingOptions> studying;  // none: contexts are not studied
  std::shared_ptr<AuditLog> audit;          // null: nothing is recorded
};

// Owns everything behind the routes. Lifecycle: create, add_routes, start the server, …, shutdown, stop the server, destroy;
// handlers refer to this, so the server must have stopped before. Thread-safe between add_routes and destruction.
class CloudService {
 public:
  // Opens or creates the data folder. Errors of ContextRegistry, PackStore and SigningKey; kInvalid without models, or with
  // the same model twice. The clock must outlive this.
  static Result<std::unique_ptr<CloudService>> create(const CloudOptions& options,
                                                      std::vector<std::shared_ptr<KvProducer>> models, const Clock& clock,
                                                      Log log);

  ~CloudService();
  CloudService(const CloudService&) = delete;
  CloudService& operator=(const CloudService&) = delete;

  // Makes it part of a fleet. Before add_routes(). connect: CloudFleetParts'.
  using ConnectCloud = std::function<Result<std::shared_ptr<CloudClient>>(const std::string& url)>;
  void join(FleetParts fleet, ConnectCloud connect);
  void add_routes(HttpServer& server);
  // The server listens at `url`: from now on the cloud takes part in its fleet, if it has one.
  void started(const std::string& url);
  // Ends computations, and with them the streams that wait for them; a pack that is not complete is refused from now on.
  void shutdown();

  PublicKey public_key() const { return key_.public_key(); }
  std::size_t n_contexts() const { return contexts_->size(); }
  std::size_t n_studied() const { return studied_->size(); }

 private:
  CloudService(SigningKey key, std::unique_ptr<ContextRegistry> contexts, std::unique_ptr<SignedPackStorage> storage,
               std::unique_ptr<StudiedLibrary> studied, std::vector<std::shared_ptr<KvProducer>> models,
               const CloudOptions& options, const Clock& clock, Log log);

  PackJobsOptions jobs_options(const CloudOptions& options);
  HttpResponse list_models() const;
  nlohmann::json status(const Caller& caller);

  const Clock& clock_;
  const Log log_;
  const SigningKey key_;
  std::vector<std::string> key_links_;  // by which earlier keys lead to it; constant once created
  const std::vector<CodecId> codecs_;   // offered, at least one
  CloudMetrics metrics_;
  const std::unique_ptr<ContextRegistry> contexts_;
  const std::unique_ptr<SignedPackStorage> storage_;
  const std::unique_ptr<StudiedLibrary> studied_;
  PackCatalog catalog_;
  // Its thread uses jobs_, whose threads wake it and use all of the above: shutdown() ends both. Null: not wanted.
  std::unique_ptr<StudyJobs> studies_;
  std::atomic<CloudFleet*> fetches_from_ = nullptr;  // once it is part of a fleet
  PackJobs jobs_;
  WorkerPool followers_{0};  // of jobs, which shutdown() ends before
  EdgeSightings edges_;
  HeldLists held_;
  CloudStatus status_;
  ContextRoutes context_routes_;
  PackRoutes pack_routes_;
  std::unique_ptr<CloudFleet> fleet_;  // last: its thread uses the rest. Null: no part of one
};

}  // namespace celslm
