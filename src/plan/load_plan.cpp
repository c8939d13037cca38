#include "plan/load_plan.h"

#include <algorithm>
#include <limits>

namespace celslm {
namespace {

using namespace std::chrono_literals;

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr Duration kComputeSilence = 2s;  // compute that has not asked for so long is not there
constexpr double kOverdue = 0.25;

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
  const bool spare_bytes = options_.policy.prefer == Prefer::kBytes && source.traits.is_metered;
  return !spare_bytes || computing_ >= max_compute_layers();
}

// --- flights ----------------------------------------------------------------------------------------------------------

bool LoadPlan::is_wanted(FlightId id) const {
  const Flight& flight = flights_.at(id);
  for (int block = flight.next; block < flight.end(); ++block) {
    if (blocks_[static_cast<std::size_t>(block)].state == State::kMissing) return true;
  }
  return false;
}

void LoadPlan::arrived(FlightId id, std::uint64_t bytes, TimePoint now) {
  Flight& flight = flights_.at(id);
  sources_[static_cast<std::size_t>(flight.source)].arrived(flight, bytes, now);
}

bool LoadPlan::claim(FlightId id, TimePoint now) {
  Flight& flight = flights_.at(id);
  const auto block = static_cast<std::size_t>(flight.next);
  sources_[static_cast<std::size_t>(flight.source)].block_came(flight, shape_.block_bytes[block], now);
  return claim_block(static_cast<int>(block));
}

bool LoadPlan::claim_block(int block) {
  Block& b = blocks_[static_cast<std::size_t>(block)];
  if (b.state != State::kMissing) return false;
  b.state = State::kClaimed;
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

// What is missing, less the parts that have come already of blocks under way.
std::vector<std::uint64_t> LoadPlan::bytes_to_come() const {
  std::vector<std::uint64_t> out = missing_bytes_;
  for (const auto& [id, flight] : flights_) {
    if (flight.next >= flight.end() || flight.part == 0) continue;
    const auto block = static_cast<std::size_t>(flight.next);
    if (blocks_[block].state != State::kMissing) continue;
    const std::uint64_t part = std::min<std::uint64_t>(flight.part, shape_.block_bytes[block] - 1);
    std::uint64_t& layer = out[static_cast<std::size_t>(shape_.layer_of(flight.next))];
    layer -= std::min(layer, part);
  }
  return out;
}

// Seconds until each missing block that is under way is here; 0 for the others.
std::vector<double> LoadPlan::arrivals_s(TimePoint now) const {
  std::vector<double> out(blocks_.size());
  for (const auto& [id, flight] : flights_) {
    const SourceState& source = sources_[static_cast<std::size_t>(flight.source)];
    const bool late = is_late(flight, now);
    const double since = seconds(now - flight.moved);
    double due = flight.answered ? 0 : source.estimate().latency_s.mean() - since;
    for (int block = flight.next; block < flight.end(); ++block) {
      const auto i = static_cast<std::size_t>(block);
      const std::uint64_t here = block == flight.next ? flight.part : 0;
      due += source.transfer_s(shape_.block_bytes[i] - std::min<std::uint64_t>(here, shape_.block_bytes[i]));
      if (blocks_[i].state != State::kMissing) continue;
      // What should have been here by now takes a while longer, in proportion to how long it took so far.
      const double arrival = late ? kNever : std::max({1e-9, due, since * kOverdue});
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
int LoadPlan::max_compute_layers() const {
  return std::min(options_.policy.max_compute_layers(shape_.n_layers), options_.max_compute_layers);
}

int LoadPlan::compute_limit(TimePoint now) const {
  if (!compute_counts(now)) return 0;
  bool source_helps = false;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    source_helps |= may_fetch(sources_[i], now) && !is_stuck(static_cast<SourceId>(i), now);
  }
  if (!source_helps) return shape_.n_layers;
  return max_compute_layers();
}

Forecast LoadPlan::look_ahead(TimePoint now) const {
  const std::vector<std::uint64_t> missing = bytes_to_come();
  LoadState state{.missing_bytes = missing,
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
  const bool first = computing_ == 0 && computed_part_ == 0;
  if (!first || options_.layer_s <= 0) layer_s_.add(seconds(now - from) / part);
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
