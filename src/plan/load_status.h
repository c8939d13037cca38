// How a load stands, and what follows from it: when blocks will be here, which sources help, what to compute.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "core/clock.h"
#include "plan/block_table.h"
#include "plan/compute_progress.h"
#include "plan/forecast.h"
#include "plan/load_policy.h"
#include "plan/source_state.h"
#include "plan/transfer.h"

namespace celslm {

// Changed by its LoadPlan alone. Not thread-safe.
struct LoadStatus {
  LoadStatus(LoadShape shape, const PlanOptions& load_options, TimePoint now);

  PlanOptions options;
  BlockTable blocks;
  ComputeProgress compute;
  std::deque<SourceState> sources;           // by SourceId
  std::map<TransferId, Transfer> transfers;  // under way

  const LoadShape& shape() const { return blocks.shape(); }
  SourceState& source(SourceId id) { return sources[static_cast<std::size_t>(id)]; }
  const SourceState& source(SourceId id) const { return sources[static_cast<std::size_t>(id)]; }

  // Whether the policy and the deadline let this source be asked for blocks.
  bool may_ask(const SourceState& source, TimePoint now) const;
  // Whether a transfer's next block should have arrived long ago.
  bool is_late(const Transfer& transfer, TimePoint now) const;
  // Whether a source may be asked and does not have all of its transfers late.
  bool helps(SourceId source, TimePoint now) const;
  // Layers from this one on may not be computed now.
  int compute_limit(TimePoint now) const;
  Forecast forecast(TimePoint now) const;

  // Seconds until each missing block that a transfer is to bring is here, [n_blocks]; 0 for the others.
  std::vector<double> arrivals_s(TimePoint now) const;
  // Seconds until `bytes` are here that the source is asked for now.
  double fetch_s(const SourceState& source, std::uint64_t bytes) const;

 private:
  int max_compute_layers() const;
  bool is_stuck(SourceId source, TimePoint now) const;
  std::vector<std::uint64_t> bytes_to_come() const;
  double next_byte_s(SourceId source, TimePoint now) const;
};

}  // namespace celslm
