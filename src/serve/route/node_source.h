// Where an edge's candidates come from: neighbours that it was given, or a directory of the fleet.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "kv/pack/context_handle.h"
#include "net/http_client.h"
#include "plan/routing.h"

namespace celslm {

// A node that requests may be sent to.
struct RouteNode {
  RouteCandidate candidate;
  std::shared_ptr<HttpClient> client;
};

// Thread-safe. Called while a request waits: answers from what it knows, without asking anybody.
class NodeSource {
 public:
  virtual ~NodeSource() = default;
  // All nodes that are in touch; holds_context is about this context (true without one).
  virtual std::vector<RouteNode> nodes(const std::optional<ContextHandle>& context) = 0;
  // A request was sent to this node (RouteCandidate::id), and ended: what the node has reported of its load cannot have it
  // yet. lost: the request's own; requested, on any thread, where the node is not heard of any more. failed: it counts as a
  // node that cannot be reached, until it is heard of again.
  virtual void began(const std::string& id, std::stop_source lost) = 0;
  virtual void ended(const std::string& id, const std::stop_source& lost, bool failed) = 0;
};

}  // namespace celslm
