// Requests to simulate: made up, or from a recorded trace.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "plan/simulation/fleet_shape.h"

namespace celslm {

// Requests at random times, equally likely at every edge; which context follows Zipf's law.
struct SyntheticLoad {
  double duration_s = 600;
  double requests_per_s = 1;  // of the fleet
  double zipf = 1.0;          // the n-th context is asked for in proportion to n^-zipf
  int prompt_tokens = 64;     // means; exponentially distributed
  int answer_tokens = 64;
};
std::vector<FleetRequest> synthetic_requests(const SyntheticLoad& load, int n_edges, int n_contexts, std::uint64_t seed);

// JSON lines with at_s, edge, context, prompt_tokens and answer_tokens, as FleetRequest has them; sorted by time.
std::string write_requests(const std::vector<FleetRequest>& requests);
// kInvalid, with the line, for anything else, and for edges and contexts that the fleet has not.
Result<std::vector<FleetRequest>> read_requests(std::string_view text, int n_edges, int n_contexts);

// A trace in Mooncake's format: JSON lines with `timestamp` (ms), `input_length`, `output_length` (tokens) and `hash_ids`,
// one for each block of 512 tokens of the input, in which equal ids stand for equal beginnings up to there.
struct TraceOptions {
  int n_contexts = 100;   // beginnings that are registered: those that save most tokens
  int min_requests = 5;   // that a beginning must have in common
  double time_scale = 1;  // times are multiplied by it
  double bytes_per_token = 12'288;
};
struct FleetTrace {
  std::vector<SimulatedContext> contexts;
  std::vector<FleetRequest> requests;
  int n_without_context = 0;
};
// A request goes to the edge that its first block behind the context stands for, so that a conversation stays at one edge;
// what the edge has of it from earlier turns is not computed again. kInvalid, with the line, for anything else than
// documented.
Result<FleetTrace> read_mooncake_trace(std::string_view text, const TraceOptions& options, int n_edges);

}  // namespace celslm
