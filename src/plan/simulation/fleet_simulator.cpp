#include "plan/simulation/fleet_simulator.h"

#include <algorithm>
#include <utility>

namespace celslm {
namespace {

constexpr int kMostRepeats = 100;  // of a request whose edge fails; its client gives up then

}  // namespace

FleetSimulator::FleetSimulator(FleetShape shape, std::vector<FleetRequest> requests)
    : shape_(std::move(shape)),
      requests_(std::move(requests)),
      chance_(shape_.seed),
      tier_(shape_.tier_bytes_per_s),
      packs_(shape_.contexts.size()),
      states_(requests_.size()),
      turns_(static_cast<std::size_t>(shape_.n_edges / std::max(shape_.site_size, 1) + 1)) {
  const LinkClass fibre = *find_link_class("fibre");
  for (int i = 0; i < shape_.n_edges; ++i) {
    const std::size_t n_links = shape_.links.size();
    nodes_.push_back({.edge = SimulatedEdge(shape_.engine),
                      .link = n_links == 0 ? fibre : shape_.links[static_cast<std::size_t>(i) % n_links],
                      .memory = ContextShelf(shape_.context_memory_bytes),
                      .disk = ContextShelf(shape_.disk_bytes),
                      .uplink = SharedPipe(shape_.lan_bytes_per_s)});
    for (int c = std::min(shape_.n_pushed, static_cast<int>(shape_.contexts.size())) - 1; c >= 0; --c)
      nodes_.back().memory.add(c, context(c).pack_bytes);
    plan_failure(What::kEdgeFails, i, shape_.failures.edge_mtbf_s);
  }
  for (int i = 0; i < shape_.n_clouds; ++i) {
    clouds_.push_back({.link = SharedPipe(shape_.cloud_bytes_per_s)});
    plan_failure(What::kCloudFails, i, shape_.failures.cloud_mtbf_s);
  }
}

std::pair<int, int> FleetSimulator::site_of(int edge) const {
  const int first = edge - edge % std::max(shape_.site_size, 1);
  return {first, std::min(first + std::max(shape_.site_size, 1), shape_.n_edges)};
}

void FleetSimulator::plan(double at_s, What what, int subject, std::uint64_t version) {
  events_.push({.at_s = at_s, .number = n_events_++, .what = what, .subject = subject, .version = version});
}

void FleetSimulator::plan_failure(What what, int subject, double mtbf_s) {
  if (mtbf_s > 0) plan(now_ + chance_.exponential(mtbf_s), what, subject);
}

FleetResult FleetSimulator::run() {
  out_.requests = requests_.size();
  std::size_t next = 0;
  while (n_settled_ < requests_.size()) {
    if (next == requests_.size() && events_.empty()) break;  // a bug, which tests notice: all requests are accounted for
    const double arrival = next < requests_.size() ? requests_[next].at_s : kNever;
    if (events_.empty() || arrival <= events_.top().at_s) {
      now_ = std::max(now_, arrival);
      arrive(static_cast<int>(next++));
    } else {
      const Event event = events_.top();
      events_.pop();
      if (event.what == What::kEdge && event.version != node(event.subject).version) continue;  // planned anew since
      now_ = std::max(now_, event.at_s);
      happen(event);
    }
    settle();
  }
  out_.duration_s = now_;
  double busy = 0;
  for (const Node& each : nodes_) {
    busy += each.edge.busy_s();
    out_.computed_tokens += each.edge.computed_tokens();
  }
  if (now_ > 0) {
    out_.edge_busy = busy / (now_ * std::max(shape_.n_edges, 1));
    out_.cloud_link_busy = out_.bytes[static_cast<std::size_t>(Origin::kCloud)] /
                           (now_ * shape_.cloud_bytes_per_s * std::max(shape_.n_clouds, 1));
  }
  std::ranges::sort(out_.ttft_s);
  std::ranges::sort(out_.tpot_s);
  return std::move(out_);
}

void FleetSimulator::happen(const Event& event) {
  switch (event.what) {
    case What::kEdge: return advance(event.subject);
    case What::kEdgeFails: return fail_edge(event.subject);
    case What::kCloudFails: return fail_cloud(event.subject);
    case What::kCloudReturns:
      cloud(event.subject).alive = true;
      return plan_failure(What::kCloudFails, event.subject, shape_.failures.cloud_mtbf_s);
    case What::kEdgeReturns: {
      node(event.subject).alive = true;
      for (const int parked : std::exchange(node(event.subject).parked, {})) deliver(parked, event.subject);
      return plan_failure(What::kEdgeFails, event.subject, shape_.failures.edge_mtbf_s);
    }
  }
}

// What follows from events at this moment, until nothing more does.
void FleetSimulator::settle() {
  while (!happened_.empty()) {
    const Happened happened = happened_.front();
    happened_.pop_front();
    handle(happened.edge, happened.event);
  }
  std::ranges::sort(touched_);
  const auto repeated = std::ranges::unique(touched_);
  touched_.erase(repeated.begin(), repeated.end());
  for (const int edge : touched_) reschedule(edge);
  touched_.clear();
}

void FleetSimulator::handle(int edge, const EdgeEvent& event) {
  if (event.kind == EdgeEvent::Kind::kLoaded) {
    end_load(edge);
    return load_next(edge);
  }
  RequestState& state = states_[static_cast<std::size_t>(event.subject)];
  const FleetRequest& asked = request(event.subject);
  if (event.kind == EdgeEvent::Kind::kFirstToken) {
    state.first_token_s = now_;
    state.row_s = node(edge).edge.row_s();
    return;
  }
  const bool forwarded = edge != asked.edge;
  out_.ttft_s.push_back(state.first_token_s - asked.at_s + (forwarded ? shape_.lan_round_trip_s : 0));
  if (asked.answer_tokens > 1) out_.tpot_s.push_back((now_ - state.first_token_s) / (asked.answer_tokens - 1));
  measure(edge, asked, state);
  out_.answered += 1;
  out_.forwarded += forwarded ? 1 : 0;
  n_settled_ += std::exchange(state.settled, true) ? 0 : 1;
  load_next(edge);  // whoever got the place may want another context
}

// Of short prompts and answers an edge measures nothing.
void FleetSimulator::measure(int edge, const FleetRequest& asked, const RequestState& state) {
  constexpr int kLeastPrompt = 32;
  constexpr int kLeastAnswer = 9;
  MeasuredRates& measured = node(edge).measured;
  if (asked.prompt_tokens >= kLeastPrompt) measured.row_s.add(state.row_s);
  if (asked.answer_tokens >= kLeastAnswer) measured.token_s.add((now_ - state.first_token_s) / (asked.answer_tokens - 1));
}

void FleetSimulator::advance(int edge) {
  beat(edge);
  node(edge).edge.advance(now_);
  for (const EdgeEvent& event : node(edge).edge.take_events()) happened_.push_back({edge, event});
  touched_.push_back(edge);
}

void FleetSimulator::reschedule(int edge) {
  const double next = node(edge).edge.next_event_s();
  ++node(edge).version;
  if (next != kNever) plan(next, What::kEdge, edge, node(edge).version);
}

void FleetSimulator::fail_edge(int edge) {
  advance(edge);
  settle();  // what is finished is finished
  Node& failed = node(edge);
  failed.alive = false;
  leave_sources(edge);
  if (failed.edge.is_loading()) count_bytes(failed.edge.end_load());
  const std::vector<int> lost = failed.edge.fail(now_);
  failed.memory.clear();
  const std::vector<int> readers = failed.uplink.receivers();
  for (const int reader : readers) {
    advance(reader);
    failed.uplink.remove(reader);
    node(reader).neighbour = -1;
    set_rates(reader);
  }
  reschedule(edge);
  plan(now_ + shape_.failures.repair_s, What::kEdgeReturns, edge);
  for (const int request : lost) {
    if (++states_[static_cast<std::size_t>(request)].repeats > kMostRepeats) {
      refuse(request);
      continue;
    }
    out_.repeated += 1;
    deliver(request, edge);
  }
}

void FleetSimulator::refuse(int request) {
  out_.refused += 1;
  n_settled_ += std::exchange(states_[static_cast<std::size_t>(request)].settled, true) ? 0 : 1;
}

void FleetSimulator::fail_cloud(int failed) {
  cloud(failed).alive = false;
  plan(now_ + shape_.failures.repair_s, What::kCloudReturns, failed);
  compute_again(failed);
  const std::vector<int> readers = cloud(failed).link.receivers();
  for (const int reader : readers) {
    advance(reader);
    cloud(failed).link.remove(reader);
    node(reader).wide = {};
    if (!node(reader).edge.is_loading()) continue;
    join_wide(reader, node(reader).edge.load());
    set_rates(reader);
  }
}

}  // namespace celslm
