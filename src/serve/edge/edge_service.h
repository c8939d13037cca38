// An edge: the OpenAI API over a small model on this box, reading shared contexts from KV that a cloud computed.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "core/clock.h"
#include "core/log.h"
#include "core/result.h"
#include "model/engine/model.h"
#include "net/http_server.h"
#include "serve/batch/batch_loop.h"
#include "serve/context/context_table.h"
#include "serve/edge/edge_metrics.h"
#include "serve/edge/pack_sharing.h"
#include "serve/load/context_loader.h"
#include "serve/openai/openai.h"

namespace celslm {

struct EdgeOptions {
  std::string model_name;                           // as clients name it; empty: the model's own
  std::uint64_t context_budget_bytes = 4ULL << 30;  // memory for contexts' KV
  std::chrono::milliseconds refresh{2'000};         // how often the cloud's list of contexts is read
  std::vector<std::string> contexts;                // texts shared by this edge's own users: contexts without any cloud
  // While no request runs: registered contexts to load before the first request for them, at most so many ...
  int max_prefetched = 0;
  // ... and exact KV in place of what came by an approximate codec.
  bool refine = false;
  LoaderOptions load;
  // batch.kv_type is contexts' type, too, unless load.codecs begins with an exact codec: then that codec's (but q8 is q8).
  BatchOptions batch;
};

// What an edge is made of; the owner keeps the clock alive.
struct EdgeParts {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Engine> engine;
  std::shared_ptr<CloudClient> cloud;  // may be null
  std::vector<std::shared_ptr<CloudClient>> neighbours;
  std::shared_ptr<PackStore> store;  // may be null
  const Clock* clock = nullptr;
  Log log;
};

// Thread-safe; serves until destroyed. Add its routes to a server before that starts, stop the server first.
class EdgeService {
 public:
  static Result<std::unique_ptr<EdgeService>> create(EdgeParts parts, const EdgeOptions& options);
  ~EdgeService();

  void add_routes(HttpServer& server);
  // Refuses new requests and lets those under way finish for up to `grace`.
  void drain(std::chrono::milliseconds grace);
  int requests_under_way() const;

  // For tests and programs that need no socket.
  HttpResponse chat_completions(const HttpRequest& request);
  HttpResponse completions(const HttpRequest& request);
  HttpResponse models() const;
  HttpResponse metrics();
  // Reads the cloud's list of contexts now.
  Status refresh_contexts();
  Status refresh_map();  // what the cloud offers for this edge's model
  // Begins to load something, if nobody asks for anything. One thread at a time.
  void use_idle_time();

 private:
  // A request made ready for the loop, and what its answer needs.
  struct Prepared {
    CompletionRequest request;
    GenerationRequest generation;
    std::string echo;
  };

  EdgeService(EdgeParts parts, const EdgeOptions& options);
  HttpResponse complete(Result<CompletionRequest> request, const HttpRequest& http);
  HttpResponse answer_whole(const CompletionRequest& request, const std::string& echo, Generation& generation,
                            const HttpRequest& http);
  HttpResponse answer_stream(CompletionRequest request, std::string echo, std::shared_ptr<Generation> generation,
                             const HttpRequest& http);
  HttpResponse put_context(const HttpRequest& request);
  HttpResponse list_contexts() const;

  Result<Prepared> prepare(CompletionRequest request);
  Result<std::vector<Token>> prompt_tokens(const CompletionRequest& request, bool with_bos) const;
  // The registered text that this request starts with, if any: named by it, or its system message.
  Result<std::optional<std::string>> shared_text(const CompletionRequest& request);
  Result<std::string> text_of(const ContextHandle& handle);
  Result<std::shared_ptr<ResidentContext>> resident(const std::string& text, bool* was_complete);
  bool is_registered(const ContextHandle& handle) const;
  std::string cloud_trouble_now() const;
  CompletionWriter writer(const CompletionRequest& request);
  std::uint32_t draw_seed();
  HttpHandler counted(std::string route, HttpResponse (EdgeService::*handler)(const HttpRequest&));
  void refresh_loop(std::stop_token stop);
  // In edge_idle.cpp, as use_idle_time().
  bool idle() const;
  bool refine_one();
  void prefetch_one();
  void register_own_contexts();  // with mutex_ held

  const EdgeParts parts_;
  const EdgeOptions options_;
  const KvType context_type_;
  const std::string name_;
  std::atomic<std::uint64_t> request_counter_{0};
  ContextTable table_;
  EdgeMetrics metrics_;
  std::unique_ptr<PackSharing> sharing_;  // null without packs to share

  mutable std::mutex mutex_;
  std::condition_variable_any refresh_wake_;
  std::unordered_map<ContextHandle, ContextInfo> registered_;  // protected by mutex_
  std::unordered_map<ContextHandle, std::string> texts_;       // protected by mutex_; of contexts asked for by handle
  std::mt19937 seeds_{std::random_device{}()};                 // protected by mutex_
  int n_prefetched_ = 0;                                       // this and the next: the refresher's alone
  std::unordered_set<ContextHandle> considered_;               // for prefetching, once each
  std::string cloud_trouble_;                                  // protected by mutex_; empty while the cloud answers

  // Destroyed first, in this order: threads that use what is above.
  std::unique_ptr<BatchLoop> loop_;
  std::unique_ptr<ContextLoader> loader_;
  std::jthread refresher_;
};

}  // namespace celslm
