#include "serve/fleet/fleet_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace celslm {

using nlohmann::json;

void report_fleet(Metrics& metrics, const MemberState& state) {
  const auto gauge = [&](const char* name, const char* help, double value) { metrics.gauge(name, help).Set(value); };
  // The member counts these; the counter here is raised to its value.
  const auto counter = [&](const char* name, const char* help, std::uint64_t value, const prometheus::Labels& labels = {}) {
    auto& c = metrics.counter(name, help, labels);
    c.Increment(std::max(0.0, static_cast<double>(value) - c.Value()));
  };
  gauge("celslm_fleet_in_touch", "Whether the last exchange with the directory succeeded", state.in_touch ? 1 : 0);
  gauge("celslm_fleet_nodes", "Other nodes of the fleet that are known", static_cast<double>(state.nodes));
  counter("celslm_fleet_beats_total", "Exchanges with the directory", state.beats, {{"outcome", "done"}});
  counter("celslm_fleet_beats_total", "Exchanges with the directory", state.failures, {{"outcome", "failed"}});
  counter("celslm_fleet_refused_total", "Records and lists of other nodes that could not be used", state.refused);
  counter("celslm_fleet_renamed_total", "Times another node held this one's id", state.renamed);
}

json fleet_status(const Member& member) {
  const MemberState state = member.state();
  const auto view = member.view();
  json nodes = json::array();
  for (const FleetNode& node : view->nodes) {
    if (nodes.size() >= kMaxNodesShown) break;
    nodes.push_back({{"id", node.record.id},
                     {"role", to_string(node.record.role)},
                     {"url", node.record.url},
                     {"running", node.record.running},
                     {"queued", node.record.queued},
                     {"held", node.held->size()}});
  }
  return {{"id", state.id}, {"in_touch", state.in_touch}, {"nodes", std::move(nodes)}};
}

}  // namespace celslm
