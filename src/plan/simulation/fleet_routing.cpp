// How simulated requests find the edge that answers them.
#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "plan/simulation/fleet_simulator.h"

namespace celslm {

void FleetSimulator::arrive(int asked) {
  deliver(asked, route(asked));
}

int FleetSimulator::route(int asked) {
  const int home = request(asked).edge;
  if (shape_.policy == RequestPolicy::kEdgeOnly || !node(home).alive) return home;
  const auto [first, end] = site_of(home);
  switch (shape_.routing) {
    case FleetRouting::kHome: return home;
    case FleetRouting::kRandom: return first + chance_.below(end - first);
    case FleetRouting::kRoundRobin:
      return first + turns_[static_cast<std::size_t>(first / std::max(shape_.site_size, 1))]++ % (end - first);
    case FleetRouting::kPredicted: return predicted_route(asked);
  }
  return home;
}

// What the home edge knows: of itself now, of its neighbours what their last heartbeats told.
RouteCandidate FleetSimulator::candidate(int edge, int wanted, bool is_home) {
  Node& there = node(edge);
  if (is_home || now_ - there.known_at_s >= shape_.heartbeat_s) {
    there.known = {.id = std::to_string(edge),
                   .accepts = !there.edge.is_full(),
                   .running = there.edge.running(),
                   .queued = there.edge.queued(),
                   .places = shape_.engine.places,
                   .prefill_tokens_per_s = there.edge.prefill_tokens_per_s(),
                   .decode_tokens_per_s = there.edge.decode_tokens_per_s()};
    there.known_at_s = now_;
  }
  RouteCandidate out = there.known;
  out.node = is_home ? RouteClass::kSelf : RouteClass::kNeighbour;
  out.round_trip_s = is_home ? 0 : shape_.lan_round_trip_s;
  out.holds_context = wanted < 0 || there.memory.has(wanted);
  if (!out.holds_context) out.context_fetch_s = expected_load_s(edge, wanted);
  return out;
}

int FleetSimulator::predicted_route(int asked) {
  const FleetRequest& what = request(asked);
  const auto [first, end] = site_of(what.edge);
  std::vector<RouteCandidate> candidates{candidate(what.edge, what.context, true)};
  std::vector<int> edges{what.edge};
  for (int i = first; i < end; ++i) {
    if (i == what.edge || !node(i).alive) continue;
    candidates.push_back(candidate(i, what.context, false));
    edges.push_back(i);
  }
  const RouteRequest route{.policy = shape_.policy,
                           .context_tokens = what.context < 0 ? 0 : context(what.context).tokens,
                           .prompt_tokens = what.prompt_tokens,
                           .answer_tokens = what.answer_tokens};
  const auto draw = [this](std::size_t n) { return static_cast<std::size_t>(chance_.below(static_cast<int>(n))); };
  return edges[choose_route(route, candidates, {}, draw).chosen];
}

int FleetSimulator::living_neighbour(int edge) {
  const auto [first, end] = site_of(edge);
  std::vector<int> alive;
  for (int i = first; i < end; ++i) {
    if (node(i).alive) alive.push_back(i);
  }
  return alive.empty() ? -1 : alive[static_cast<std::size_t>(chance_.below(static_cast<int>(alive.size())))];
}

// An edge that is down is replaced by a neighbour where the policy allows it; otherwise the request waits for it.
void FleetSimulator::deliver(int asked, int edge) {
  if (!node(edge).alive && shape_.policy != RequestPolicy::kEdgeOnly) {
    const int other = living_neighbour(edge);
    if (other >= 0) edge = other;
  }
  if (!node(edge).alive) {
    node(edge).parked.push_back(asked);
    return;
  }
  advance(edge);
  Node& there = node(edge);
  if (there.edge.is_full()) return refuse(asked);
  const FleetRequest& what = request(asked);
  states_[static_cast<std::size_t>(asked)].edge = edge;
  const bool ready = what.context < 0 || there.memory.has(what.context);
  if (ready && what.context >= 0) there.memory.use(what.context);
  there.edge.add(asked, ready ? -1 : what.context, what.prompt_tokens, what.answer_tokens);
  load_next(edge);
}

}  // namespace celslm
