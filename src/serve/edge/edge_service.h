// An edge: the OpenAI API over a small model on this machine, with shared contexts read from KV that a cloud computed.
//
// This is its HTTP face and the place where its parts are put together. A request goes through Completions (its way from the
// parsed request to the answer), which asks RequestPreparation for the shared context and the tokens, and the BatchLoop for
// the text.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/memory_ledger.h"
#include "core/process_memory.h"
#include "core/result.h"
#include "core/spawn.h"
#include "core/worker_pool.h"
#include "model/engine/model.h"
#include "net/http_server.h"
#include "serve/batch/batch_loop.h"
#include "serve/edge/cloud_refresh.h"
#include "serve/edge/completions.h"
#include "serve/edge/context_directory.h"
#include "serve/edge/context_memory.h"
#include "serve/edge/edge_fleet.h"
#include "serve/edge/edge_metrics.h"
#include "serve/edge/edge_options.h"
#include "serve/edge/embeddings.h"
#include "serve/edge/idle_work.h"
#include "serve/edge/pack_sharing.h"
#include "serve/edge/request_preparation.h"
#include "serve/edge/request_router.h"
#include "serve/edge/responses.h"

namespace celslm {

// What an edge is made of; the owner keeps the clock alive.
struct EdgeParts {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Engine> engine;
  std::shared_ptr<CloudClient> cloud;               // may be null
  std::vector<std::shared_ptr<CloudClient>> peers;  // other edges that serve packs of the same cloud
  std::shared_ptr<PackStore> store;                 // may be null
  std::optional<FleetParts> fleet;                  // none: it knows cloud and peers alone; needs a cloud
  ConnectNode connect_node;                         // of the fleet's nodes; with a fleet
  std::filesystem::path known_contexts;             // folder of KnownContexts; empty: nothing is remembered
  std::shared_ptr<ProcessMemory> process;           // null: program and model are not in the ledger
  std::shared_ptr<ConstraintMaker> constraints;     // null: answers with grammars are refused
  std::vector<std::shared_ptr<NodeSource>> nodes;   // that may answer requests; none: all are answered here
  const Clock* clock = nullptr;
  Log log;
  Spawn spawn = spawn_thread;  // of loads
};

// Thread-safe; serves until destroyed. Add its routes to a server before that starts, stop the server first.
class EdgeService {
 public:
  static Result<std::unique_ptr<EdgeService>> create(EdgeParts parts, const EdgeOptions& options);
  ~EdgeService();
  EdgeService(const EdgeService&) = delete;
  EdgeService& operator=(const EdgeService&) = delete;

  void add_routes(HttpServer& server);
  // The server listens at `url`: from now on the edge takes part in its fleet, if it has one.
  void started(const std::string& url);
  // Refuses new requests and lets those under way finish for up to `grace`.
  void drain(std::chrono::milliseconds grace) { loop_.stop(grace); }
  int requests_under_way() const;

  // For tests and programs that need no socket: these wait for the answer.
  HttpResponse chat_completions(const HttpRequest& request);
  HttpResponse completions(const HttpRequest& request);
  HttpResponse responses(const HttpRequest& request);
  HttpResponse embeddings(const HttpRequest& request);
  HttpResponse metrics();
  // Reads the cloud's list of contexts now.
  Status refresh_contexts() { return refresh_.refresh(); }
  // Starts to load something, if no request runs.
  void use_idle_time() { idle_work_.run_once(); }
  // Returns once no context is being read from a source or kept on disk.
  void wait_until_loaded() const { contexts_.wait_until_loaded(); }

 private:
  EdgeService(EdgeParts parts, const EdgeOptions& options, double compute_s_per_work, std::unique_ptr<WorkerPool> writers);
  bool model_served(const std::string& name) const;
  HttpResponse route(Result<CompletionRequest> parsed, const HttpRequest& request);
  HttpResponse begin_chat(const HttpRequest& request);
  HttpResponse begin_completions(const HttpRequest& request);
  HttpResponse begin_responses(const HttpRequest& request);
  HttpResponse begin_embeddings(const HttpRequest& request);
  CompletionParts completion_parts(const Clock& clock);
  HttpResponse models() const;
  HttpResponse status(const Caller& caller) const;
  HttpResponse node(const Caller& caller) const;
  HttpResponse model(const std::string& id) const;
  nlohmann::json described_model() const;
  static HttpResponse not_forwarded();
  HttpResponse put_context(const HttpRequest& request);
  HttpResponse remove_context(const HttpRequest& request);
  HttpResponse list_contexts(const Caller& caller) const;
  std::unique_ptr<EdgeFleet> make_fleet(EdgeParts& parts);
  NodeRecord describe_node() const;
  std::vector<HeldPack> shared_packs() const;
  ContextMemory::FindStudy find_study(const EdgeOptions& options) const;
  HttpHandler counted(std::string route, HttpResponse (EdgeService::*handler)(const HttpRequest&));

  const std::string model_name_;
  const bool forwards_registrations_;
  const std::shared_ptr<AuditLog> audit_;  // may be null
  const std::shared_ptr<const Model> model_;
  const std::shared_ptr<PackStore> store_;
  const std::shared_ptr<MemoryLedger> memory_;
  const std::shared_ptr<ProcessMemory> process_;  // may be null
  EdgeMetrics metrics_;
  const std::unique_ptr<WorkerPool> writers_;
  // Each uses those above it and ends its threads before they go.
  BatchLoop loop_;
  ContextDirectory directory_;
  const int max_running_;
  const std::vector<CodecRung> rungs_;            // codecs in which packs are kept
  const std::shared_ptr<const KvTuning> tuning_;  // of contexts; may be null
  const std::unique_ptr<EdgeFleet> fleet_;        // null: no part of one. Uses those below until stopped
  ContextMemory contexts_;
  const std::unique_ptr<PackSharing> sharing_;  // null without packs to share
  RequestPreparation preparation_;
  Completions completions_;
  Responses responses_;
  Embeddings embeddings_;
  Forwarder forwarder_;
  RequestRouter router_;
  IdleWork idle_work_;
  CloudRefresh refresh_;
};

}  // namespace celslm
