#include "plan/load_plan.h"

#include <algorithm>
#include <limits>

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr Duration kComputeSilence = 2s;  // compute that has not asked for so long is not there
constexpr double kOverdue = 0.25;
constexpr double kHedgeGain = 1.25;   // asking twice must be this much sooner
constexpr double kFarFaster = 2.0;    // by this factor
constexpr double kNearlyEqual = 2.0;  // rates within this factor

}  // namespace

LoadPlan::LoadPlan(LoadShape shape, const PlanOptions& options, TimePoint now)
    : shape_(std::move(shape)),
      options_(options),
      blocks_(static_cast<std::size_t>(shape_.n_blocks())),
      left_(static_cast<std::size_t>(shape_.n_layers), shape_.blocks_per_layer),
      missing_bytes_(static_cast<std::size_t>(shape_.n_layers)),
      asked_(now) {
  for (int i = 0; i < shape_.n_blocks(); ++i)
    missing_bytes_[static_cast<std::size_t>(shape_.layer_of(i))] += shape_.block_bytes[static_cast<std::size_t>(i)];
}

// --- sources ----------------------------------------------------------------------------------------------------------

SourceId LoadPlan::add_source(const SourceTraits& traits, TimePoint now) {
  sources_.emplace_back(traits, shape_.n_blocks(), now);
  return static_cast<SourceId>(sources_.size()) - 1;
}

void LoadPlan::offer(SourceId source, int first, int count) {
  sources_[static_cast<std::size_t>(source)].offer(first, count);
}

void LoadPlan::drop(SourceId source) {
  sources_[static_cast<std::size_t>(source)].drop();
}

bool LoadPlan::alive(SourceId source) const {
  return sources_[static_cast<std::size_t>(source)].alive();
}

bool LoadPlan::any_source_alive() const {
  return std::ranges::any_of(sources_, [](const SourceState& s) { return s.alive(); });
}

void LoadPlan::set_deadline(TimePoint deadline) {
  options_.deadline = std::min(deadline, options_.deadline.value_or(deadline));
}

bool LoadPlan::may_fetch(const SourceState& source, TimePoint now) const {
  if (!source.alive()) return false;
  if (!compute_counts(now)) return true;  // nothing else would supply the rest
  if (options_.deadline && now >= *options_.deadline) return false;
  const bool spare_bytes = options_.prefer == Prefer::kBytes && source.traits.is_metered;
  return !spare_bytes || computing_ >= options_.max_compute_layers;
}

// --- flights ----------------------------------------------------------------------------------------------------------

bool LoadPlan::is_wanted(FlightId id) const {
  const Flight& flight = flights_.at(id);
  for (int block = flight.next; block < flight.end(); ++block) {
    if (blocks_[static_cast<std::size_t>(block)].state == State::kMissing) return true;
  }
  return false;
}

void LoadPlan::first_byte(FlightId id, TimePoint now) {
  Flight& flight = flights_.at(id);
  sources_[static_cast<std::size_t>(flight.source)].first_byte(flight, now);
}

bool LoadPlan::claim(FlightId id, TimePoint now) {
  Flight& flight = flights_.at(id);
  const auto block = static_cast<std::size_t>(flight.next);
  sources_[static_cast<std::size_t>(flight.source)].block_came(flight, shape_.block_bytes[block], now);
  if (blocks_[block].state != State::kMissing) return false;
  blocks_[block].state = State::kClaimed;
  return true;
}

void LoadPlan::held(int block) {
  Block& b = blocks_[static_cast<std::size_t>(block)];
  if (b.state == State::kHeld) return;
  b.state = State::kHeld;
  const auto layer = static_cast<std::size_t>(shape_.layer_of(block));
  --left_[layer];
  missing_bytes_[layer] -= shape_.block_bytes[static_cast<std::size_t>(block)];
  ++n_held_;
}

void LoadPlan::released(int block) {
  Block& b = blocks_[static_cast<std::size_t>(block)];
  if (b.state == State::kClaimed) b.state = State::kMissing;
}

void LoadPlan::ended(FlightId id, FlightEnd how, TimePoint now) {
  const auto it = flights_.find(id);
  const Flight flight = it->second;
  flights_.erase(it);
  for (int block = flight.first; block < flight.end(); ++block) --blocks_[static_cast<std::size_t>(block)].flights;
  sources_[static_cast<std::size_t>(flight.source)].flight_ended(flight, how == FlightEnd::kFailed,
                                                                 how == FlightEnd::kRefused, now);
}

std::vector<FlightId> LoadPlan::overdue(TimePoint now, Duration limit) const {
  std::vector<FlightId> out;
  for (const auto& [id, flight] : flights_) {
    if (now - flight.moved > limit) out.push_back(id);
  }
  return out;
}

std::uint64_t LoadPlan::bytes_of(int first, int count) const {
  std::uint64_t bytes = 0;
  for (int i = first; i < first + count; ++i) bytes += shape_.block_bytes[static_cast<std::size_t>(i)];
  return bytes;
}

bool LoadPlan::is_late(const Flight& flight, TimePoint now) const {
  const int block = std::min(flight.next, flight.end() - 1);
  return sources_[static_cast<std::size_t>(flight.source)].is_late(flight,
                                                                   shape_.block_bytes[static_cast<std::size_t>(block)], now);
}

bool LoadPlan::is_stuck(SourceId source, TimePoint now) const {
  bool any = false;
  for (const auto& [id, flight] : flights_) {
    if (flight.source != source) continue;
    if (!is_late(flight, now)) return false;
    any = true;
  }
  return any;
}

// Seconds until each missing block that is under way is here; 0 for the others.
std::vector<double> LoadPlan::arrivals_s(TimePoint now) const {
  std::vector<double> out(blocks_.size());
  for (const auto& [id, flight] : flights_) {
    const SourceState& source = sources_[static_cast<std::size_t>(flight.source)];
    const bool late = is_late(flight, now);
    const double since = seconds(now - flight.moved);
    double due = flight.answered ? 0 : source.estimate().latency_s.mean();
    for (int block = flight.next; block < flight.end(); ++block) {
      const auto i = static_cast<std::size_t>(block);
      due += source.transfer_s(shape_.block_bytes[i]);
      if (blocks_[i].state != State::kMissing) continue;
      // What should have been here by now takes a while longer, in proportion to how long it took so far.
      const double arrival = late ? kNever : std::max({1e-9, due - since, since * kOverdue});
      out[i] = out[i] > 0 ? std::min(out[i], arrival) : arrival;
    }
  }
  return out;
}

// Seconds until a source's next bytes, if it is asked now.
double LoadPlan::wait_s(SourceId id, TimePoint now) const {
  double wait = sources_[static_cast<std::size_t>(id)].estimate().latency_s.mean();
  const double latency = wait;
  for (const auto& [flight_id, flight] : flights_) {
    if (flight.source != id) continue;
    wait = flight.answered ? 0 : std::min(wait, std::max(0.0, latency - seconds(now - flight.began)));
  }
  return wait;
}

double LoadPlan::own_arrival_s(const SourceState& source, std::uint64_t bytes) const {
  const double rate = source.estimate().rate_bytes_per_s.mean();
  const double transfer = rate > 0 ? static_cast<double>(bytes) * (source.active() + 1) / rate : 0;
  return source.estimate().latency_s.mean() + transfer;
}

// --- what to do next --------------------------------------------------------------------------------------------------

bool LoadPlan::compute_counts(TimePoint now) const {
  return now - asked_ < kComputeSilence;
}

// What no source can give is computed whatever the policy says.
int LoadPlan::compute_limit(TimePoint now) const {
  if (!compute_counts(now)) return 0;
  bool source_helps = false;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    source_helps |= may_fetch(sources_[i], now) && !is_stuck(static_cast<SourceId>(i), now);
  }
  if (!source_helps) return shape_.n_layers;
  return options_.prefer == Prefer::kEnergy ? 0 : std::min(shape_.n_layers, options_.max_compute_layers);
}

Forecast LoadPlan::look_ahead(TimePoint now) const {
  LoadState state{.missing_bytes = missing_bytes_,
                  .computing = computing_,
                  .computed_part = computed_part_,
                  .compute_limit = compute_limit(now),
                  .layer_s = layer_s(),
                  .own_layer_s = layer_s() * options_.own_share};
  std::vector<SourceRate> rates;
  SourceRate growing;
  double grows_for = kNever;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const SourceState& source = sources_[i];
    const auto id = static_cast<SourceId>(i);
    if (!may_fetch(source, now) || is_stuck(id, now)) continue;
    const SourceRate rate{source.estimate().rate_bytes_per_s.mean(), wait_s(id, now)};
    if (source.seems_to_have_all(now)) {
      rates.push_back(rate);
    } else if (source.grows_for_s(now) < grows_for) {
      grows_for = source.grows_for_s(now);
      growing = rate;
    }
  }
  if (rates.empty() && grows_for < kNever) {
    rates.push_back(growing);
    state.grows_for_s = grows_for;
  }
  std::ranges::sort(rates, {}, &SourceRate::wait_s);
  state.sources = rates;
  return forecast(state);
}

std::uint64_t LoadPlan::budget(const SourceState& source) const {
  std::uint64_t missing = 0;
  for (const std::uint64_t bytes : missing_bytes_) missing += bytes;
  int lanes = 0;
  for (const SourceState& s : sources_) lanes += s.alive() ? std::min(2, s.traits.max_flights) : 0;
  // The nearer the end, the smaller: nobody should sit on much while others have nothing to do. But not so small that most
  // of the time goes by in waiting.
  const std::uint64_t share = missing / (2 * static_cast<std::uint64_t>(std::max(1, lanes)));
  return std::min(source.request_bytes(), std::max(share, source.bytes_per_wait()));
}

bool LoadPlan::is_free(const SourceState& source, int block) const {
  const Block& b = blocks_[static_cast<std::size_t>(block)];
  return b.state == State::kMissing && b.flights == 0 && source.has(block);
}

std::optional<int> LoadPlan::first_free(const SourceState& source, int layer) const {
  const int begin = layer * shape_.blocks_per_layer;
  for (int block = begin; block < begin + shape_.blocks_per_layer; ++block) {
    if (is_free(source, block)) return block;
  }
  return std::nullopt;
}

// Whether a block of this layer would be here without this source before it could come from it: by local compute, which the
// plan counts on for this layer, or because all that is missing will have come from faster ones.
bool LoadPlan::comes_sooner_anyway(SourceId id, int layer, const Forecast& plan, TimePoint now) const {
  const SourceState& source = sources_[static_cast<std::size_t>(id)];
  const std::uint32_t bytes = shape_.block_bytes[static_cast<std::size_t>(layer * shape_.blocks_per_layer)];
  const double own = own_arrival_s(source, bytes);
  if (layer < plan.compute_until && layer_s() > 0 && own >= (layer - computing_ + 1 - computed_part_) * layer_s())
    return true;
  if (own <= plan.fetch_s) return false;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const auto other = static_cast<SourceId>(i);
    const bool helps = other != id && sources_[i].has_all() && sources_[i].estimate().rate_bytes_per_s.known() &&
                       may_fetch(sources_[i], now) && !is_stuck(other, now);
    if (helps && own_arrival_s(sources_[i], bytes) * kFarFaster < own) return true;
  }
  return false;
}

// With a neighbour and a cloud of about the same speed the neighbour takes the shallow end: then neither asks for what the
// other is about to, and the cloud, which serves everyone, is asked for the layers that only it computes for small models.
bool LoadPlan::takes_shallow_end(SourceId id) const {
  const SourceState& source = sources_[static_cast<std::size_t>(id)];
  if (!source.traits.is_neighbour) return false;
  const double rate = source.estimate().rate_bytes_per_s.mean();
  return std::ranges::any_of(sources_, [&](const SourceState& other) {
    const double others = other.estimate().rate_bytes_per_s.mean();
    return other.alive() && !other.traits.is_neighbour && others > 0 && rate < others * kNearlyEqual &&
           others < rate * kNearlyEqual;
  });
}

// As many adjacent free blocks as one request should ask for. Within a layer upward; further layers in the given order.
Run LoadPlan::extend(const SourceState& source, int first, FetchOrder order) const {
  const std::uint64_t budget_bytes = budget(source);
  Run run{.first = first, .count = 1};
  std::uint64_t bytes = shape_.block_bytes[static_cast<std::size_t>(first)];
  const auto try_add = [&](int block) {
    if (block < 0 || block >= shape_.n_blocks() || !is_free(source, block)) return false;
    const std::uint64_t more = bytes + shape_.block_bytes[static_cast<std::size_t>(block)];
    if (more > budget_bytes) return false;
    bytes = more;
    return true;
  };
  const int layer_end = (shape_.layer_of(first) + 1) * shape_.blocks_per_layer;
  const int last = order == FetchOrder::kDeepFirst ? layer_end : shape_.n_blocks();
  while (run.first + run.count < last && try_add(run.first + run.count)) ++run.count;
  if (order == FetchOrder::kShallowFirst) return run;
  // Whole layers only, so that what a request leaves behind are whole layers.
  while (run.first % shape_.blocks_per_layer == 0 && run.first > computing_ * shape_.blocks_per_layer) {
    for (int i = 1; i <= shape_.blocks_per_layer; ++i) {
      if (!try_add(run.first - i)) return run;
    }
    run.first -= shape_.blocks_per_layer;
    run.count += shape_.blocks_per_layer;
  }
  return run;
}

std::optional<Run> LoadPlan::choose_free(SourceId id, const Forecast& plan, TimePoint now) const {
  const SourceState& source = sources_[static_cast<std::size_t>(id)];
  const bool deep = plan.order == FetchOrder::kDeepFirst;
  if (!deep || takes_shallow_end(id)) {
    for (int layer = deep ? plan.compute_until : 0; layer < shape_.n_layers; ++layer) {
      const auto block = first_free(source, layer);
      if (block && !comes_sooner_anyway(id, layer, plan, now)) return extend(source, *block, FetchOrder::kShallowFirst);
    }
  }
  for (int layer = shape_.n_layers - 1; layer >= 0; --layer) {
    const auto block = first_free(source, layer);
    if (block && !comes_sooner_anyway(id, layer, plan, now)) return extend(source, *block, FetchOrder::kDeepFirst);
  }
  return std::nullopt;
}

// The blocks that will be last as things are under way, if this source would have them sooner: from the very last one
// towards the front for as long as that holds.
std::optional<Run> LoadPlan::choose_hedge(SourceId id, const Forecast& plan, TimePoint now) const {
  const SourceState& source = sources_[static_cast<std::size_t>(id)];
  std::vector<double> arrivals = arrivals_s(now);
  for (const auto& [flight_id, flight] : flights_) {  // it cannot help itself, but with another request for one that is late
    if (flight.source != id || is_late(flight, now)) continue;
    for (int block = flight.next; block < flight.end(); ++block) arrivals[static_cast<std::size_t>(block)] = 0;
  }
  const auto sooner = [&](int block, std::uint64_t bytes) {
    const double arrival = arrivals[static_cast<std::size_t>(block)];
    return arrival > 0 && source.has(block) &&
           bytes <= std::max<std::uint64_t>(source.request_bytes(), shape_.block_bytes[static_cast<std::size_t>(block)]) &&
           own_arrival_s(source, bytes) * kHedgeGain < arrival &&
           !comes_sooner_anyway(id, shape_.layer_of(block), plan, now);
  };
  int last = -1;
  for (int block = 0; block < shape_.n_blocks(); ++block) {
    const auto i = static_cast<std::size_t>(block);
    if (sooner(block, shape_.block_bytes[i]) && (last < 0 || arrivals[i] >= arrivals[static_cast<std::size_t>(last)]))
      last = block;
  }
  if (last < 0) return std::nullopt;
  std::uint64_t bytes = shape_.block_bytes[static_cast<std::size_t>(last)];
  int first = last;
  while (first > 0 && sooner(first - 1, bytes + shape_.block_bytes[static_cast<std::size_t>(first - 1)])) {
    bytes += shape_.block_bytes[static_cast<std::size_t>(--first)];
  }
  return Run{.first = first, .count = last - first + 1};
}

std::optional<Run> LoadPlan::next(SourceId id, TimePoint now) {
  SourceState& source = sources_[static_cast<std::size_t>(id)];
  if (complete() || !may_fetch(source, now) || !source.wants_flight()) return std::nullopt;
  const Forecast plan = look_ahead(now);
  auto run = choose_free(id, plan, now);
  if (!run) run = choose_hedge(id, plan, now);
  if (!run) return std::nullopt;
  run->flight = ++last_flight_;
  for (int block = run->first; block < run->first + run->count; ++block) ++blocks_[static_cast<std::size_t>(block)].flights;
  source.flight_began(bytes_of(run->first, run->count));
  flights_[run->flight] = {.id = run->flight,
                           .source = id,
                           .first = run->first,
                           .count = run->count,
                           .next = run->first,
                           .began = now,
                           .moved = now};
  return run;
}

// --- compute ----------------------------------------------------------------------------------------------------------

bool LoadPlan::wants_compute(TimePoint now) {
  asked_ = now;
  const bool wants = !complete() && look_ahead(now).compute_until > computing_;
  if (!wants) unit_ended_ = {};
  return wants;
}

void LoadPlan::unit_computed(double part, TimePoint began, TimePoint now) {
  // What else the engine does between two units of a context counts: it is how fast this context is computed.
  const TimePoint from = unit_ended_ == TimePoint{} ? began : unit_ended_;
  unit_ended_ = now;
  // The first touches its memory for the first time and starts threads: no measure of the rest, where another is known.
  if (first_unit_done_ || options_.layer_s <= 0) layer_s_.add(seconds(now - from) / part);
  first_unit_done_ = true;
  computed_part_ = std::min(1.0, computed_part_ + part);
}

std::vector<int> LoadPlan::claim_layer(int layer) {
  std::vector<int> out;
  for (int i = 0; i < shape_.blocks_per_layer; ++i) {
    const int block = layer * shape_.blocks_per_layer + i;
    Block& b = blocks_[static_cast<std::size_t>(block)];
    if (b.state != State::kMissing) continue;
    b.state = State::kClaimed;
    out.push_back(block);
  }
  computing_ = layer + 1;
  computed_part_ = 0;
  return out;
}

}  // namespace celslm
