// How simulated edges get contexts: sources, their shares, and what the plan makes of them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan/simulation/fleet_simulator.h"

namespace celslm {
namespace {

constexpr double kOwnTokens = 64;  // a user's own, for the forecast

std::size_t index(Origin origin) {
  return static_cast<std::size_t>(origin);
}

}  // namespace

void FleetSimulator::load_next(int edge) {
  Node& here = node(edge);
  if (!here.alive || here.edge.is_loading()) return;
  for (const int wanted : here.edge.contexts_wanted()) {
    if (here.memory.has(wanted)) {  // it came while the request waited for a place
      here.memory.use(wanted);
      here.edge.context_ready(wanted);
      touched_.push_back(edge);
      continue;
    }
    return begin_load(edge, wanted);
  }
}

void FleetSimulator::begin_load(int edge, int wanted) {
  advance(edge);
  ContextLoad load{.context = wanted, .shape = context(wanted), .began_s = now_};
  find_sources(edge, load);
  node(edge).edge.begin_load(load);
  set_rates(edge);
  out_.loads += 1;
}

void FleetSimulator::find_sources(int edge, ContextLoad& load) {
  Node& here = node(edge);
  load.fetch_from_s = now_;
  if (here.disk.has(load.context)) {
    here.disk.use(load.context);
    return;
  }
  here.neighbour = holder_near(edge, load.context);
  join_wide(edge, load);
  if (here.neighbour < 0) return;
  load.fetch_from_s = now_ + shape_.lan_round_trip_s;
  SharedPipe& uplink = node(here.neighbour).uplink;
  uplink.add(edge, shape_.lan_bytes_per_s);
  balance(uplink);
}

// The cloud or the tier, from when on it has the pack.
void FleetSimulator::join_wide(int edge, ContextLoad& load) {
  Node& here = node(edge);
  here.wide = wide_source(load.context);
  if (here.wide.none()) return;
  const double ready = here.wide.tier ? now_ : pack_ready_s(load.context, here.wide.cloud);
  load.fetch_from_s = std::max(ready, now_ + here.link.round_trip_s);
  SharedPipe& pipe = *wide_pipe(here.wide);
  pipe.add(edge, here.link.down_bytes_per_s);
  balance(pipe);
}

SharedPipe* FleetSimulator::wide_pipe(const Wide& wide) {
  if (wide.tier) return &tier_;
  return wide.cloud >= 0 ? &cloud(wide.cloud).link : nullptr;
}

FleetSimulator::Wide FleetSimulator::wide_source(int wanted) const {
  if (shape_.tier_bytes_per_s > 0 && packs_[static_cast<std::size_t>(wanted)].ready_s <= now_) return {.tier = true};
  Wide out;
  std::size_t fewest = SIZE_MAX;
  for (int i = 0; i < shape_.n_clouds; ++i) {
    const Cloud& each = clouds_[static_cast<std::size_t>(i)];
    if (!each.alive || each.link.receivers().size() >= fewest) continue;
    fewest = each.link.receivers().size();
    out.cloud = i;
  }
  return out;
}

// A pack is computed once, by the cloud that is asked first, and then all have it.
double FleetSimulator::pack_ready_s(int wanted, int asked) {
  PackState& pack = packs_[static_cast<std::size_t>(wanted)];
  if (pack.ready_s != kNever) return pack.ready_s;
  Cloud& computing = cloud(asked);
  const double tokens = context(wanted).tokens;
  pack = {.ready_s = std::max(now_, computing.free_at_s) + tokens / shape_.cloud_prefill_tokens_per_s, .cloud = asked};
  computing.free_at_s = pack.ready_s;
  out_.cloud_prefill_tokens += tokens;
  return pack.ready_s;
}

int FleetSimulator::holder_near(int edge, int wanted) const {
  if (shape_.lan_bytes_per_s <= 0) return -1;
  const auto [first, end] = site_of(edge);
  int out = -1;
  std::size_t fewest = SIZE_MAX;
  for (int i = first; i < end; ++i) {
    const Node& each = node(i);
    if (i == edge || !each.alive || each.uplink.receivers().size() >= fewest) continue;
    if (!each.disk.has(wanted) && !each.memory.has(wanted)) continue;
    fewest = each.uplink.receivers().size();
    out = i;
  }
  return out;
}

void FleetSimulator::set_rates(int edge) {
  Node& here = node(edge);
  if (!here.edge.is_loading()) return;
  ContextLoad& load = here.edge.load();
  load.rates = {};
  if (here.disk.has(load.context)) load.rates[index(Origin::kDisk)] = shape_.disk_bytes_per_s;
  if (here.neighbour >= 0)
    load.rates[index(Origin::kNeighbour)] = node(here.neighbour).uplink.rate_of(shape_.lan_bytes_per_s);
  if (here.wide.tier) load.rates[index(Origin::kTier)] = tier_.rate_of(here.link.down_bytes_per_s);
  if (here.wide.cloud >= 0)
    load.rates[index(Origin::kCloud)] = cloud(here.wide.cloud).link.rate_of(here.link.down_bytes_per_s);
  load.computes = worth_computing(edge, load);
  touched_.push_back(edge);
}

void FleetSimulator::balance(SharedPipe& pipe) {
  if (!pipe.is_out_of_balance()) return;
  pipe.rebalance();
  for (const int receiver : pipe.receivers()) {
    advance(receiver);
    set_rates(receiver);
  }
}

ForecastInput FleetSimulator::forecast_input(int edge, const SimulatedContext& shape,
                                             std::vector<std::uint64_t>& missing) const {
  const auto n_layers = static_cast<std::size_t>(shape_.engine.n_layers);
  missing.assign(n_layers, static_cast<std::uint64_t>(shape.pack_bytes / static_cast<double>(n_layers)));
  const double speed = std::max(node(edge).edge.prefill_tokens_per_s(), 1e-9);
  return {.missing_bytes = missing,
          .compute_limit = shape_.prefer == Prefer::kLatency ? shape_.engine.n_layers : 0,
          .layer_s = shape.tokens / speed / shape_.engine.n_layers,
          .own_layer_s = kOwnTokens / speed / shape_.engine.n_layers};
}

bool FleetSimulator::worth_computing(int edge, const ContextLoad& load) const {
  double rate = 0;
  for (const double each : load.rates) rate += each;
  if (rate == 0) return true;  // whatever the policy: nothing else supplies it
  std::vector<std::uint64_t> missing;
  ForecastInput input = forecast_input(edge, load.shape, missing);
  const SourceRate all{.rate_bytes_per_s = rate, .wait_s = std::max(0.0, load.fetch_from_s - now_)};
  input.sources = {&all, 1};
  return forecast(input).compute_until > 0;
}

void FleetSimulator::leave_sources(int edge) {
  Node& here = node(edge);
  if (here.neighbour >= 0) {
    SharedPipe& uplink = node(here.neighbour).uplink;
    uplink.remove(edge);
    here.neighbour = -1;
    balance(uplink);
  }
  if (SharedPipe* const pipe = wide_pipe(here.wide); pipe != nullptr) {
    pipe->remove(edge);
    here.wide = {};
    balance(*pipe);
  }
}

void FleetSimulator::end_load(int edge) {
  if (!node(edge).edge.is_loading()) return;
  const ContextLoad load = node(edge).edge.end_load();
  count_bytes(load);
  node(edge).measured.context_s.add(now_ - load.began_s);
  node(edge).memory.add(load.context, load.shape.pack_bytes);
  node(edge).disk.add(load.context, load.shape.pack_bytes);
  leave_sources(edge);
  touched_.push_back(edge);
}

void FleetSimulator::count_bytes(const ContextLoad& load) {
  for (std::size_t i = 0; i < kOrigins; ++i) out_.bytes[i] += load.received[i];
}

// Clouds that computed packs for the one that failed: those wait that wait for these packs.
void FleetSimulator::compute_again(int failed) {
  for (std::size_t c = 0; c < packs_.size(); ++c) {
    if (packs_[c].cloud != failed || packs_[c].ready_s <= now_ || packs_[c].ready_s == kNever) continue;
    packs_[c] = {};
    const Wide other = wide_source(static_cast<int>(c));
    if (other.cloud < 0) continue;
    const double ready = pack_ready_s(static_cast<int>(c), other.cloud);
    for (int edge = 0; edge < shape_.n_edges; ++edge) {
      if (!node(edge).edge.is_loading() || node(edge).edge.load().context != static_cast<int>(c)) continue;
      advance(edge);
      node(edge).edge.load().fetch_from_s = std::max(node(edge).edge.load().fetch_from_s, ready);
    }
  }
}

}  // namespace celslm
