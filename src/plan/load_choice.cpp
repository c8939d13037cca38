// LoadPlan, what a source should be asked for next.
#include <algorithm>

#include "plan/load_plan.h"

namespace celslm {
namespace {

constexpr double kHedgeGain = 1.25;   // asking twice must be this much sooner
constexpr double kFarFaster = 2.0;    // by this factor
constexpr double kNearlyEqual = 2.0;  // rates within this factor

}  // namespace

std::uint64_t LoadPlan::budget(const SourceState& source) const {
  std::uint64_t missing = 0;
  for (const std::uint64_t bytes : missing_bytes_) missing += bytes;
  int lanes = 0;
  int sources = 0;
  for (const SourceState& s : sources_) {
    lanes += s.alive() ? std::min(2, s.traits.max_flights) : 0;
    sources += s.alive() ? 1 : 0;
  }
  // With the header: all that can come before the next request would be answered, but for what the others may bring.
  if (source.is_presumed()) {
    const std::uint64_t part = missing / static_cast<std::uint64_t>(std::max(1, sources));
    return std::max(source.request_bytes(), std::min(source.bytes_per_wait(), part));
  }
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

std::optional<Run> LoadPlan::first(SourceId id, TimePoint now) {
  SourceState& source = sources_[static_cast<std::size_t>(id)];
  source.presume(true);
  const auto run = next(id, now);
  source.presume(false);
  if (run) flights_.at(run->flight).opening = true;
  return run;
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

}  // namespace celslm
