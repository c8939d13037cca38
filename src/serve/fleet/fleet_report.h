// What cloud and edge report of their fleet: metrics, and the part "fleet" of GET /v1/status.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "fleet/directory/member.h"
#include "serve/wire/metrics.h"

namespace celslm {

void report_fleet(Metrics& metrics, const MemberState& state);

inline constexpr std::size_t kMaxNodesShown = 256;
nlohmann::json fleet_status(const Member& member);

}  // namespace celslm
