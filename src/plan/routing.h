// Which node answers a request: pure logic over figures that others have measured. No clock, no socket, no random source of
// its own, so that edges, the simulator and tests call the same function. docs/routing.md has the formulas.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "plan/policy.h"

namespace celslm {

enum class RouteClass {
  kSelf,        // the edge that was asked
  kNeighbour,   // a trusted edge with the same model
  kLargeModel,  // a node that answers with the large model
};
const char* to_string(RouteClass node);  // "self", "neighbour", "large"

// A node, and what is known of it now. Rates of 0 are unknown.
struct RouteCandidate {
  std::string id;
  RouteClass node = RouteClass::kNeighbour;
  bool accepts = true;              // false: it would refuse the request (places and queue full, draining)
  bool holds_context = false;       // complete in memory; true where the request has no context
  double context_fetch_s = 0;       // until a context that it does not hold has come over the network; 0: it computes it
  int running = 0;                  // requests in its batch
  int queued = 0;                   // requests that wait for a place in it
  int places = 1;                   // requests that its batch can have
  double prefill_tokens_per_s = 0;  // of one request's prompt, at the present load
  double decode_tokens_per_s = 0;   // of one answer, at the present load
  double round_trip_s = 0;          // to it and back; 0 for the edge itself
};

// A request, as far as its cost depends on it.
struct RouteRequest {
  RequestPolicy policy = RequestPolicy::kEdgeOnly;
  bool was_forwarded = false;  // another edge sent it here: it is answered here
  bool stays_here = false;     // it has something that must not leave, whatever its policy
  int context_tokens = 0;      // of its registered context; 0: none
  int prompt_tokens = 0;       // of its own
  int answer_tokens = 0;       // that are expected
};

struct RoutePrediction {
  double ttft_s = 0;   // from now to the first token
  double tpot_s = 0;   // for each further token
  double total_s = 0;  // to the last of the expected tokens
  double cost_s = 0;   // by which nodes are compared: the total, and again what a load takes. It displaces a context that
                       // somebody has to load once more, and others wait for the engine meanwhile
};

// When another node is clearly better: predictions are rough, and a request that changes nodes loses what its conversation
// left behind.
struct RouteOptions {
  double margin = 0.25;        // of the cost here that must be saved ...
  double least_gain_s = 0.05;  // ... and this much at least
  double near_best = 2.0;  // of nodes that are clearly better, those with at most so many times the best one's cost count
};

enum class RouteReason {
  kPolicy,        // here: the policy allows no other node
  kForwarded,     // here: it was forwarded to this edge
  kPrivate,       // here: it has something that must not leave
  kAlone,         // here: no other node takes requests
  kGoodEnough,    // here: no other node is clearly better
  kUnmeasured,    // here: too little has been measured to tell
  kFaster,        // there: clearly better, with its context resident or computed as here
  kHoldsContext,  // there: clearly better, and it holds the context, which this edge does not
  kOverloaded,    // there: this edge would refuse the request
};
const char* to_string(RouteReason reason);

struct RouteDecision {
  std::size_t chosen = 0;  // index into the candidates; 0: this edge
  RouteReason reason = RouteReason::kPolicy;
  std::vector<std::optional<RoutePrediction>> predictions;  // one for each candidate; absent where rates are unknown
};

// A number from [0, n), each as likely as the others; n > 0.
using UniformDraw = std::function<std::size_t(std::size_t n)>;

// Absent if a rate that it needs is unknown.
std::optional<RoutePrediction> predict(const RouteRequest& request, const RouteCandidate& candidate);

// candidates: this edge first (at least that), then others in any order.
//
// Of the other nodes that policy and candidates allow, those count that are clearly better than this edge (all that accept
// where this edge does not), and of them those whose predicted time is near the best one's. Two of these are drawn, and the
// better of the two is chosen: edges that all see the same figures would otherwise all choose the same node (power of two
// choices). The large model is chosen only where this edge and all neighbours refuse: handing over to it otherwise is the
// cascade's business.
RouteDecision choose_route(const RouteRequest& request, std::span<const RouteCandidate> candidates,
                           const RouteOptions& options, const UniformDraw& draw);

}  // namespace celslm
