// Decides where a request is answered, and sees to it: here, by another node, or by the large model where the small one's
// answer is uncertain. docs/routing.md.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "core/mutex.h"
#include "plan/routing.h"
#include "serve/edge/completions.h"
#include "serve/edge/edge_options.h"
#include "serve/edge/route_plan.h"
#include "serve/route/forwarder.h"
#include "serve/route/node_source.h"

namespace celslm {

// All of it outlives the router and the answers that it began.
struct RouterParts {
  Completions& completions;
  const ContextMemory& contexts;
  std::vector<std::shared_ptr<NodeSource>> nodes;  // none: every request is answered here
  Forwarder& forwarder;
};

// Thread-safe.
class RequestRouter {
 public:
  RequestRouter(RouterParts parts, const RoutingOptions& options, const BatchOptions& batch);

  // What answers a request at this edge. It may be called later, on another thread, and again; notes: for "x_celslm".
  using Here = std::function<HttpResponse(const HttpRequest& http, const nlohmann::json& notes)>;
  // judged: the cascade may look at the answer (not for /v1/responses, whose answers it does not know).
  HttpResponse answer(const std::shared_ptr<const CompletionRequest>& request, const HttpRequest& http, Here here,
                      bool judged);

  // Whether it matters for this request that there is a router; otherwise it is answered as if there were none.
  bool concerns(const CompletionRequest& request) const { return !parts_.nodes.empty() || request.policy; }
  // This edge, for a request without a context.
  RouteCandidate self() const;

 private:
  struct Known {                             // of the nodes, for one request
    std::vector<RouteCandidate> candidates;  // this edge first
    std::vector<std::pair<std::shared_ptr<NodeSource>, RouteNode>> others;
  };
  struct Routed {  // a request on its way
    std::shared_ptr<const CompletionRequest> request;
    HttpRequest http;  // with its body only where it may leave this edge
    RoutePlan plan;
    Here here;
    nlohmann::json notes;  // "routing"
  };
  std::string name_of(const std::string& client) const;
  RequestPolicy policy_of(const CompletionRequest& request, const HttpRequest& http) const;
  Known known(const RoutePlan& plan) const;
  HttpResponse answer_here(const std::shared_ptr<Routed>& routed, const Known& known, bool judged);
  HttpResponse forward(const std::shared_ptr<Routed>& routed, const Known& known, std::size_t to,
                       const std::function<HttpResponse(const Error&)>& otherwise);
  std::optional<HttpResponse> judge(const std::shared_ptr<Routed>& routed, const Known& known);
  RouteDecision choose(const RoutePlan& plan, const Known& known) CELSLM_EXCLUDES(mutex_);
  // One of those that answer with the large model and take requests; 0: there is none.
  std::size_t large_model(const Known& known) CELSLM_EXCLUDES(mutex_);

  const RouterParts parts_;
  const RoutingOptions options_;
  const std::string salt_;
  const int places_;
  const int most_requests_;  // in the batch and waiting
  Mutex mutex_;
  std::minstd_rand chance_ CELSLM_GUARDED_BY(mutex_){std::random_device()()};
};

}  // namespace celslm
