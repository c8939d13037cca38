// One load from its first order to its last: what is asked of whom, what is cancelled, when the engine computes, when the
// load ends and closes what it owns.
//
// A state machine, the only owner of the load's plan. Its owner reports events, one at a time, and carries out the orders
// that follow in their order; a clock is the only other thing it knows. The same events at the same times give the same
// orders, so the simulation of tests/support/simulated_load.h runs this very object. No event blocks. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "core/clock.h"
#include "plan/load_orders.h"
#include "plan/load_plan.h"

namespace celslm {

// A transfer without progress for so long is aborted.
inline constexpr Duration kTransferTimeout = std::chrono::seconds(3);

// How the pack of a load is being kept on disk.
struct PackKeeping {
  bool wants_blocks = false;  // some are not kept yet, and it has not been given up
  bool complete = false;      // only its header is missing
};

class LoadCoordinator {
 public:
  // Clock and places must outlive this.
  LoadCoordinator(LoadShape shape, const PlanOptions& options, const Clock& clock, WorkPlaces& places);

  // --- its owner
  SourceId add_source(const SourceTraits& traits);  // before start(), or on FallBack
  void start();
  void fell_back();
  // Ends the load now, whatever is missing.
  void stop();
  void closed();
  // Something that take() has refused may be had now.
  void places_free() { settle(); }
  // When tick() is to be called at the latest: what is late is known by time alone. Null: nothing depends on time.
  std::optional<TimePoint> review_at() const;
  void tick();
  // What is to be done, in this order; each once.
  std::vector<LoadOrder> take_orders() { return std::exchange(orders_, {}); }

  // --- work on sources
  void offered(SourceId source, BlockRange blocks);
  // The opening has ended; without success the source supplies nothing more.
  void opened(SourceId source, bool success);
  void arrived(TransferId transfer, std::uint64_t bytes);  // more of it, of whichever block
  // The next block of a transfer is here and is what was signed. True if it is the caller's to write, who ends with
  // written() or released().
  bool verified(TransferId transfer, int block);
  bool is_needed(TransferId transfer) const;
  void ended(TransferId transfer, TransferEnd how);

  // --- blocks
  bool claim(int block) { return plan_.claim(block); }  // one that came without a transfer
  void written(int block);
  void released(int block);
  // Before start(), and whenever it may have changed; reports of two threads may come in either order.
  void keeping(const PackKeeping& now);
  void rows_to_keep();  // there are computed rows that KeepRows should take
  void rows_kept();

  // --- the engine
  bool wants_unit();
  void unit_computed(double part, TimePoint began);
  std::vector<int> blocks_written(int layer) const { return plan_.blocks_written(layer); }
  std::vector<int> claim_layer(int layer);  // the caller writes these, and ends with layer_written()
  void layer_written(std::span<const int> blocks);
  void set_deadline(TimePoint deadline);

  // --- how it stands
  const LoadPlan& plan() const { return plan_; }
  bool is_open(SourceId source) const { return source_at(source).phase == SourcePhase::kOpened; }
  bool ending() const { return phase_ >= Phase::kEnding; }
  // From the beginning, by the first forecast that rested on measurements of everything it depends on.
  std::optional<double> predicted_s() const { return predicted_s_; }

 private:
  enum class Phase : std::uint8_t { kNew, kLoading, kFallingBack, kEnding, kClosing, kClosed };
  enum class SourcePhase : std::uint8_t { kWaiting, kOpening, kOpened, kFailed };
  struct SourceStatus {
    SourcePhase phase = SourcePhase::kWaiting;
    bool spent = false;  // and reported so
  };
  struct Work {
    Transfer transfer;
    bool cancelled = false;
    bool ended = false;  // for the plan; whoever carries it out has not reported its end yet
  };

  SourceStatus& source_at(SourceId id) { return sources_[static_cast<std::size_t>(id)]; }
  const SourceStatus& source_at(SourceId id) const { return sources_[static_cast<std::size_t>(id)]; }
  bool any(SourcePhase phase) const;
  bool all_announced() const;
  bool nothing_more() const;
  void settle();
  void report_spent();
  void dispatch();
  bool open(SourceId source);
  bool read(SourceId source);
  bool take_place(LoadWork work);
  void cancel(Work& work, bool stalled);
  void cancel_needless();
  void end();
  void keep_rows();
  void try_close();
  void wake_engine();
  void predict();
  TimePoint now() const { return clock_.now(); }

  const Clock& clock_;
  WorkPlaces& places_;
  const TimePoint began_;
  LoadPlan plan_;
  Phase phase_ = Phase::kNew;
  std::vector<SourceStatus> sources_;  // by SourceId
  std::map<TransferId, Work> work_;    // transfers whose end has not been reported
  PackKeeping keeping_;
  std::vector<LoadOrder> orders_;
  std::optional<double> predicted_s_;
  bool stopped_ = false;
  bool fell_back_ = false;
  bool ever_worked_ = false;
  bool rows_waiting_ = false;
  bool rows_busy_ = false;     // KeepRows is under way
  bool engine_waits_ = false;  // it asked, and there was nothing to compute
};

}  // namespace celslm
