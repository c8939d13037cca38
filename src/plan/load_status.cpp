#include "plan/load_status.h"

#include <algorithm>
#include <limits>

namespace celslm {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kOverdue = 0.25;  // what is overdue takes at least this share of the time it has taken so far

}  // namespace

LoadStatus::LoadStatus(LoadShape shape, const PlanOptions& load_options, TimePoint now)
    : options(load_options), blocks(std::move(shape)), compute(load_options.layer_s, now) {}

// --- who may supply what ----------------------------------------------------------------------------------------------

bool LoadStatus::may_ask(const SourceState& source, TimePoint now) const {
  if (!source.alive() || source.spent()) return false;
  if (!compute.is_active(now)) return true;  // nothing else would supply the rest
  if (options.deadline && now >= *options.deadline) return false;
  const bool spare_bytes = options.policy.prefer == Prefer::kBytes && source.traits.is_metered;
  return !spare_bytes || compute.layer() >= max_compute_layers();
}

bool LoadStatus::is_late(const Transfer& transfer, TimePoint now) const {
  const int block = std::min(transfer.next, transfer.blocks.end() - 1);
  return source(transfer.source).is_late(transfer, shape().bytes_of(block), now);
}

// All of its transfers are late.
bool LoadStatus::is_stuck(SourceId id, TimePoint now) const {
  bool any = false;
  for (const auto& [transfer_id, transfer] : transfers) {
    if (transfer.source != id) continue;
    if (!is_late(transfer, now)) return false;
    any = true;
  }
  return any;
}

bool LoadStatus::helps(SourceId id, TimePoint now) const {
  return may_ask(source(id), now) && !is_stuck(id, now);
}

int LoadStatus::max_compute_layers() const {
  return std::min(options.policy.max_compute_layers(shape().n_layers), options.max_compute_layers);
}

int LoadStatus::compute_limit(TimePoint now) const {
  if (!compute.is_active(now)) return 0;
  bool any_helps = false;
  for (std::size_t i = 0; i < sources.size(); ++i) any_helps |= helps(static_cast<SourceId>(i), now);
  return any_helps ? max_compute_layers() : shape().n_layers;
}

// --- when -------------------------------------------------------------------------------------------------------------

// What is missing, without the parts that have arrived of blocks under way. [n_layers]
std::vector<std::uint64_t> LoadStatus::bytes_to_come() const {
  const auto missing = blocks.missing_bytes();
  std::vector<std::uint64_t> out(missing.begin(), missing.end());
  for (const auto& [id, transfer] : transfers) {
    if (transfer.next >= transfer.blocks.end() || transfer.partial_bytes == 0) continue;
    if (!blocks.is_missing(transfer.next)) continue;
    const std::uint64_t part = std::min<std::uint64_t>(transfer.partial_bytes, shape().bytes_of(transfer.next) - 1);
    std::uint64_t& layer = out[static_cast<std::size_t>(shape().layer_of(transfer.next))];
    layer -= std::min(layer, part);
  }
  return out;
}

std::vector<double> LoadStatus::arrivals_s(TimePoint now) const {
  std::vector<double> out(static_cast<std::size_t>(shape().n_blocks()));
  for (const auto& [id, transfer] : transfers) {
    const SourceState& from = source(transfer.source);
    const bool late = is_late(transfer, now);
    const double since = seconds(now - transfer.progressed);
    double due = transfer.answered ? 0 : from.estimate().latency_s.mean() - since;
    for (int block = transfer.next; block < transfer.blocks.end(); ++block) {
      const auto i = static_cast<std::size_t>(block);
      const std::uint64_t bytes = shape().bytes_of(block);
      due += from.transfer_s(bytes - std::min(block == transfer.next ? transfer.partial_bytes : 0, bytes));
      if (!blocks.is_missing(block)) continue;
      const double arrival = late ? kNever : std::max({1e-9, due, since * kOverdue});
      out[i] = out[i] > 0 ? std::min(out[i], arrival) : arrival;
    }
  }
  return out;
}

// Seconds until a source's next bytes, if it is asked now.
double LoadStatus::next_byte_s(SourceId id, TimePoint now) const {
  const double latency = source(id).estimate().latency_s.mean();
  double wait = latency;
  for (const auto& [transfer_id, transfer] : transfers) {
    if (transfer.source != id) continue;
    wait = transfer.answered ? 0 : std::min(wait, std::max(0.0, latency - seconds(now - transfer.began)));
  }
  return wait;
}

double LoadStatus::fetch_s(const SourceState& source, std::uint64_t bytes) const {
  const double rate = source.estimate().rate_bytes_per_s.mean();
  const double transfer = rate > 0 ? static_cast<double>(bytes) * (source.active() + 1) / rate : 0;
  return source.estimate().latency_s.mean() + transfer;
}

Forecast LoadStatus::forecast(TimePoint now) const {
  const std::vector<std::uint64_t> missing = bytes_to_come();
  ForecastInput input{.missing_bytes = missing,
                      .computing = compute.layer(),
                      .computed_part = compute.part(),
                      .compute_limit = compute_limit(now),
                      .layer_s = compute.layer_s(),
                      .own_layer_s = compute.layer_s() * options.own_share};
  std::vector<SourceRate> rates;
  SourceRate growing;
  double complete_in_s = kNever;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const SourceState& source = sources[i];
    const auto id = static_cast<SourceId>(i);
    if (!helps(id, now)) continue;
    const SourceRate rate{source.estimate().rate_bytes_per_s.mean(), next_byte_s(id, now)};
    if (source.seems_to_have_all(now)) {
      rates.push_back(rate);
    } else if (source.complete_in_s(now) < complete_in_s) {
      complete_in_s = source.complete_in_s(now);
      growing = rate;
    }
  }
  if (rates.empty() && complete_in_s < kNever) {
    rates.push_back(growing);
    input.source_complete_in_s = complete_in_s;
  }
  std::ranges::sort(rates, {}, &SourceRate::wait_s);
  input.sources = rates;
  return celslm::forecast(input);
}

}  // namespace celslm
