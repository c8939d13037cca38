// Who supplies which block of one context, decided moment by moment.
//
// Local compute goes through the layers from 0 up; sources drain the blocks from the last layer down; they meet wherever
// they meet, so the division needs no estimate to be near the best. Estimates decide the rest: whether a link is so fast
// that computing would only be in its way (then blocks come shallow first and the user's tokens follow them), whether a
// block is still worth asking for, and when a source is slow enough that another one should ask again.
//
// Pure logic: the owner says what happened and when, and asks what to do next. Same calls, same decisions. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "core/clock.h"
#include "plan/forecast.h"
#include "plan/source_state.h"

namespace celslm {

using SourceId = int;

// Blocks are numbered layer by layer.
struct LoadShape {
  int n_layers = 0;
  int blocks_per_layer = 0;
  std::vector<std::uint32_t> block_bytes;  // [n_layers * blocks_per_layer]

  int n_blocks() const { return n_layers * blocks_per_layer; }
  int layer_of(int block) const { return block / blocks_per_layer; }
};

enum class Prefer {
  kLatency,  // whatever is soonest
  kEnergy,   // computes only what no source can give
  kBytes,    // asks sources that cross a network only for what may not be computed here
};

// What the operator of an edge chooses. What no source can give is computed in any case.
struct LoadPolicy {
  Prefer prefer = Prefer::kLatency;
  int max_compute_percent = 100;  // of a context's layers, while a source could give them

  // The layers that may be computed while a source could give them, at most.
  int max_compute_layers(int n_layers) const { return prefer == Prefer::kEnergy ? 0 : n_layers * max_compute_percent / 100; }
};

struct PlanOptions {
  LoadPolicy policy;
  int max_compute_layers = 1 << 20;   // a limit of this context's beside the policy's
  double own_share = 0;               // the user's own tokens through a layer, as a part of the layer's computation
  double layer_s = 0;                 // one layer's computation, from earlier; 0: unknown
  std::optional<TimePoint> deadline;  // from then on nothing is asked of sources: the rest is computed
};

struct Run {
  FlightId flight = 0;
  int first = 0;
  int count = 0;
};

enum class FlightEnd { kDone, kFailed, kRefused };  // kRefused: this source will never do

class LoadPlan {
 public:
  LoadPlan(LoadShape shape, const PlanOptions& options, TimePoint now);

  // Sources.
  SourceId add_source(const SourceTraits& traits, TimePoint now);
  void offer(SourceId source, int first, int count);  // these blocks can be asked for
  void drop(SourceId source);                         // it will give nothing more
  bool alive(SourceId source) const;
  bool any_source_alive() const;
  void set_deadline(TimePoint deadline);  // the earliest one given counts

  // What a source that has not offered anything yet should be asked for together with the pack's header.
  std::optional<Run> first(SourceId source, TimePoint now);
  // What to ask of `source` now; nullopt: nothing until something changes. Ask again at the latest when `patience()` is
  // over.
  std::optional<Run> next(SourceId source, TimePoint now);
  static constexpr Duration patience() { return std::chrono::milliseconds(20); }
  // Whether a flight still has something that is missing; if not, it may be cut off.
  bool is_wanted(FlightId flight) const;
  void arrived(FlightId flight, std::uint64_t bytes, TimePoint now);  // more of its bytes, of whichever block
  // The next block of a flight is whole and good. True: it is the caller's to write, who then says held() or released().
  bool claim(FlightId flight, TimePoint now);
  // The same for a block that came without a flight.
  bool claim_block(int block);
  void held(int block);
  void released(int block);
  void ended(FlightId flight, FlightEnd how, TimePoint now);
  // Flights that have not moved for so long that they should be broken off and count as failed.
  std::vector<FlightId> overdue(TimePoint now, Duration limit) const;

  // Local compute: units of layers, from 0 up. Whoever computes asks before each unit; as long as it does, it is counted on.
  bool wants_compute(TimePoint now);
  // `part` of a layer was computed; the parts of a layer add up to 1.
  void unit_computed(double part, TimePoint began, TimePoint now);
  // A layer has been computed: its blocks that nobody has, to be written and said held() by the caller.
  std::vector<int> claim_layer(int layer);

  bool complete() const { return n_held_ == shape_.n_blocks(); }
  bool layer_held(int layer) const { return left_[static_cast<std::size_t>(layer)] == 0; }
  Forecast look_ahead(TimePoint now) const;
  const LinkEstimate& estimate(SourceId source) const { return sources_[static_cast<std::size_t>(source)].estimate(); }
  double layer_s() const { return layer_s_.mean_or(options_.layer_s); }
  bool layer_measured() const { return layer_s_.known(); }  // in this load
  const LoadShape& shape() const { return shape_; }

 private:
  enum class State : std::uint8_t { kMissing, kClaimed, kHeld };
  struct Block {
    State state = State::kMissing;
    std::uint8_t flights = 0;
  };

  bool compute_counts(TimePoint now) const;
  int max_compute_layers() const;
  int compute_limit(TimePoint now) const;
  bool may_fetch(const SourceState& source, TimePoint now) const;
  bool is_late(const Flight& flight, TimePoint now) const;
  bool is_stuck(SourceId source, TimePoint now) const;  // all of its flights are late
  std::vector<std::uint64_t> bytes_to_come() const;     // [n_layers]
  std::vector<double> arrivals_s(TimePoint now) const;
  double wait_s(SourceId source, TimePoint now) const;
  double own_arrival_s(const SourceState& source, std::uint64_t bytes) const;
  bool is_free(const SourceState& source, int block) const;
  bool comes_sooner_anyway(SourceId source, int layer, const Forecast& plan, TimePoint now) const;
  bool takes_shallow_end(SourceId source) const;
  std::optional<int> first_free(const SourceState& source, int layer) const;
  std::optional<Run> choose_free(SourceId source, const Forecast& plan, TimePoint now) const;
  std::optional<Run> choose_hedge(SourceId source, const Forecast& plan, TimePoint now) const;
  Run extend(const SourceState& source, int first, FetchOrder order) const;
  std::uint64_t budget(const SourceState& source) const;
  std::uint64_t bytes_of(int first, int count) const;

  const LoadShape shape_;
  PlanOptions options_;
  std::vector<Block> blocks_;
  std::vector<int> left_;                     // [n_layers]: blocks not held
  std::vector<std::uint64_t> missing_bytes_;  // [n_layers]: of them
  int n_held_ = 0;
  std::deque<SourceState> sources_;
  std::map<FlightId, Flight> flights_;
  FlightId last_flight_ = 0;

  int computing_ = 0;         // the layer that compute is at
  double computed_part_ = 0;  // of it
  Ewma layer_s_;
  TimePoint asked_{};       // when compute last asked
  TimePoint unit_ended_{};  // of the last unit, if another was wanted at once
};

}  // namespace celslm
