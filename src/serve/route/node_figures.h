// GET /v1/node: what an edge tells other edges of itself, so that they can predict what a request would take there. Small,
// bounded, and nothing of any request. docs/routing.md describes it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "kv/pack/context_handle.h"
#include "plan/routing.h"

namespace celslm {

// Limits of a document from another node: a larger one would be parsed every second.
inline constexpr std::size_t kMaxHeldContexts = 1'000;
inline constexpr std::size_t kMaxNodeBytes = 128U << 10;

struct NodeFigures {
  Hash256 model;           // id; edges forward only to nodes with the same one
  std::string model_name;  // as clients name it
  bool accepts = true;     // false: a request would be refused now
  int running = 0;
  int queued = 0;
  int places = 1;
  double prefill_tokens_per_s = 0;  // 0: not measured yet
  double decode_tokens_per_s = 0;
  double context_load_s = 0;        // that its last loads of contexts took on average; 0: not measured yet
  std::vector<ContextHandle> held;  // public contexts that are complete in memory, at most kMaxHeldContexts
};

nlohmann::json to_json(const NodeFigures& figures);
// kInvalid with the field's name if it does not have the documented shape.
Result<NodeFigures> node_figures_from(std::string_view body);

// As a candidate; holds_context and round_trip_s are left to the caller.
RouteCandidate candidate_of(const NodeFigures& figures, std::string id, RouteClass node);

}  // namespace celslm
