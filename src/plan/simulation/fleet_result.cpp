#include "plan/simulation/fleet_result.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace celslm {

double percentile(const std::vector<double>& sorted, double percent) {
  if (sorted.empty()) return 0;
  const double rank = std::ceil(percent / 100 * static_cast<double>(sorted.size()));
  return sorted[static_cast<std::size_t>(std::clamp(rank - 1, 0.0, static_cast<double>(sorted.size() - 1)))];
}

nlohmann::json to_json(const FleetResult& result) {
  const auto ms = [](const std::vector<double>& values, double percent) { return percentile(values, percent) * 1000; };
  const auto bytes = [&](Origin origin) { return result.bytes[static_cast<std::size_t>(origin)]; };
  return {{"requests", result.requests},
          {"answered", result.answered},
          {"refused", result.refused},
          {"forwarded", result.forwarded},
          {"repeated", result.repeated},
          {"p50_ttft_ms", ms(result.ttft_s, 50)},
          {"p95_ttft_ms", ms(result.ttft_s, 95)},
          {"p99_ttft_ms", ms(result.ttft_s, 99)},
          {"p50_tpot_ms", ms(result.tpot_s, 50)},
          {"p95_tpot_ms", ms(result.tpot_s, 95)},
          {"bytes_cloud", bytes(Origin::kCloud)},
          {"bytes_neighbours", bytes(Origin::kNeighbour)},
          {"bytes_tier", bytes(Origin::kTier)},
          {"bytes_disk", bytes(Origin::kDisk)},
          {"loads", result.loads},
          {"computed_tokens", result.computed_tokens},
          {"cloud_prefill_tokens", result.cloud_prefill_tokens},
          {"edge_busy", result.edge_busy},
          {"cloud_link_busy", result.cloud_link_busy},
          {"duration_s", result.duration_s}};
}

}  // namespace celslm
