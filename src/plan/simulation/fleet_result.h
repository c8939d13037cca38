// What came of a simulated fleet.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "plan/simulation/simulated_edge.h"

namespace celslm {

struct FleetResult {
  std::uint64_t requests = 0;
  std::uint64_t answered = 0;
  std::uint64_t refused = 0;    // no place and no room in the queue where they were sent
  std::uint64_t forwarded = 0;  // answered by a neighbour
  std::uint64_t repeated = 0;   // sent again because their edge failed
  std::vector<double> ttft_s;   // of those answered, sorted
  std::vector<double> tpot_s;   // of those with at least two tokens, sorted
  std::array<double, kOrigins> bytes{};
  std::uint64_t loads = 0;          // of contexts
  double computed_tokens = 0;       // of prompts and contexts, at edges
  double cloud_prefill_tokens = 0;  // of contexts, at clouds
  double edge_busy = 0;             // share of the edges' time
  double cloud_link_busy = 0;       // share of the clouds' links, on average
  double duration_s = 0;            // until the last answer
};

double percentile(const std::vector<double>& sorted, double percent);  // 0 for none
nlohmann::json to_json(const FleetResult& result);

}  // namespace celslm
