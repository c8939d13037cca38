// How simulated requests find the edge that answers them.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "plan/simulation/fleet_simulator.h"

namespace celslm {
namespace {

constexpr int kUsualAnswerTokens = 128;  // that an edge counts on at most

}  // namespace

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

RouteCandidate FleetSimulator::figures(int edge) const {
  const Node& there = node(edge);
  const auto per_s = [](const Ewma& seconds, double otherwise) { return seconds.known() ? 1 / seconds.mean() : otherwise; };
  return {.id = std::to_string(edge),
          .accepts = !there.edge.is_full(),
          .context_fetch_s = there.measured.context_s.mean_or(0),
          .running = there.edge.running(),
          .queued = there.edge.queued(),
          .places = shape_.engine.places,
          .prefill_tokens_per_s = per_s(there.measured.row_s, shape_.engine.prefill_tokens_per_s),
          .decode_tokens_per_s = per_s(there.measured.token_s, 0)};
}

// Called before anything changes at the edge: what it was at its last heartbeat it still is.
void FleetSimulator::beat(int edge) {
  const double phase = std::fmod(edge * 0.618, 1);  // edges do not tell all at the same moment
  const double number = std::floor(now_ / shape_.heartbeat_s + phase);
  Node& there = node(edge);
  if (number == there.beat) return;
  there.beat = number;
  there.known = figures(edge);
  there.sent.clear();
}

// What the home edge knows: of itself now, of its neighbours what their last heartbeats told, and what it sent since.
RouteCandidate FleetSimulator::candidate(int edge, int wanted, int home) {
  Node& there = node(edge);
  beat(edge);
  RouteCandidate out = edge == home ? figures(edge) : there.known;
  out.node = edge == home ? RouteClass::kSelf : RouteClass::kNeighbour;
  out.round_trip_s = edge == home ? 0 : shape_.lan_round_trip_s;
  out.holds_context = wanted < 0 || there.memory.has(wanted);
  if (edge != home) out.queued += there.sent[home];
  return out;
}

int FleetSimulator::predicted_route(int asked) {
  const FleetRequest& what = request(asked);
  const auto [first, end] = site_of(what.edge);
  std::vector<RouteCandidate> candidates{candidate(what.edge, what.context, what.edge)};
  std::vector<int> edges{what.edge};
  for (int i = first; i < end; ++i) {
    if (i == what.edge || !node(i).alive) continue;
    candidates.push_back(candidate(i, what.context, what.edge));
    edges.push_back(i);
  }
  const RouteRequest route{.policy = shape_.policy,
                           .context_tokens = what.context < 0 ? 0 : context(what.context).tokens,
                           .prompt_tokens = what.prompt_tokens,
                           .answer_tokens = std::min(what.answer_tokens, kUsualAnswerTokens)};
  const auto draw = [this](std::size_t n) { return static_cast<std::size_t>(chance_.below(static_cast<int>(n))); };
  const int chosen = edges[choose_route(route, candidates, {}, draw).chosen];
  if (chosen != what.edge) ++node(chosen).sent[what.edge];
  return chosen;
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
