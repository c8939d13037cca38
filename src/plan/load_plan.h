// Who supplies which block of one context, decided moment by moment.
//
// Local compute goes through the layers from 0 up; sources supply the blocks from the last layer down; they meet wherever
// they meet, so the division needs no estimate to be near the best. Estimates decide the rest: whether a link is so fast
// that computing would only delay it (then blocks come shallow first and the user's tokens follow them), whether a block is
// still worth asking for, and when a source is slow enough that another one should be asked, too.
//
// Pure logic: the owner reports what happened and when, and asks what to do next. Same calls, same decisions. Not
// thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/clock.h"
#include "plan/load_status.h"

namespace celslm {

class LoadPlan {
 public:
  LoadPlan(LoadShape shape, const PlanOptions& options, TimePoint now) : status_(std::move(shape), options, now) {}

  // Sources.
  SourceId add_source(const SourceTraits& traits, TimePoint now);
  void offer(SourceId source, BlockRange blocks) { status_.source(source).offer(blocks); }  // it can be asked for these
  void drop(SourceId source) { status_.source(source).drop(); }                             // it will supply nothing more
  bool alive(SourceId source) const { return status_.source(source).alive(); }
  bool any_source_alive() const;
  bool spent(SourceId source) const { return status_.source(source).spent(); }  // it has been asked for all that it may be
  void set_deadline(TimePoint deadline);                                        // the earliest one given counts
  const LinkEstimate& estimate(SourceId source) const { return status_.source(source).estimate(); }

  // The transfer to begin with a source that has not offered anything yet, together with the request for the pack's header.
  std::optional<Transfer> next_with_header(SourceId source, TimePoint now);
  // The transfer to begin with `source` now; nullopt: none until something changes. To be asked again when it has, and at
  // the latest after patience(): what is late is known by time alone.
  std::optional<Transfer> next(SourceId source, TimePoint now);
  // Whether it is worth asking next(): another transfer could help.
  bool wants_transfer(SourceId source) const { return status_.source(source).wants_transfer(); }
  static constexpr Duration patience() { return std::chrono::milliseconds(20); }
  // Whether a transfer still brings something that is missing; if not, it may be cancelled.
  bool is_needed(TransferId transfer) const;
  bool all_arrived(TransferId transfer) const;                                  // its last block is here
  void bytes_arrived(TransferId transfer, std::uint64_t bytes, TimePoint now);  // more of it, of whichever block
  // The next block of a transfer is here and is what was signed. True if it is the caller's to write, who ends with
  // written() or released().
  bool claim_next(TransferId transfer, TimePoint now);
  // The same for a block that came without a transfer.
  bool claim(int block) { return status_.blocks.claim(block); }
  void written(int block) { status_.blocks.written(block); }
  void released(int block) { status_.blocks.released(block); }
  void ended(TransferId transfer, TransferEnd how, TimePoint now);
  // Transfers without progress for longer than `limit`, to be cancelled and reported as failed.
  std::vector<TransferId> stalled(TimePoint now, Duration limit) const;

  // Local compute: units of layers, from 0 up. Whoever computes asks before each unit; as long as it does, it is counted on.
  bool wants_compute(TimePoint now);
  bool would_compute(TimePoint now) const;  // what it would answer
  bool asked_lately(TimePoint now) const { return status_.compute.asked_lately(now); }
  // `part` of a layer was computed; the parts of a layer add up to 1.
  void unit_computed(double part, TimePoint began, TimePoint now) { status_.compute.unit_computed(part, began, now); }
  // A layer has been computed: its blocks that were missing, claimed for the caller to write.
  std::vector<int> claim_layer(int layer);
  std::vector<int> blocks_written(int layer) const;
  double layer_s() const { return status_.compute.layer_s(); }
  bool layer_measured() const { return status_.compute.measured(); }  // in this load

  bool complete() const { return status_.blocks.complete(); }
  bool layer_complete(int layer) const { return status_.blocks.layer_complete(layer); }
  Forecast forecast(TimePoint now) const { return status_.forecast(now); }
  const LoadShape& shape() const { return status_.shape(); }

 private:
  LoadStatus status_;
  TransferId last_id_ = 0;
};

}  // namespace celslm
