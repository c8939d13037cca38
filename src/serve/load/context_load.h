// One context on its way into memory: carries out on workers what its coordinator orders, and reports what comes of it.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "serve/context/resident_context.h"
#include "serve/load/block_sink.h"
#include "serve/load/block_source.h"
#include "serve/load/load_parts.h"
#include "serve/load/load_state.h"
#include "serve/load/load_timer.h"
#include "serve/load/load_workers.h"
#include "serve/load/pack_keeper.h"
#include "serve/load/source_reader.h"

namespace celslm {

// Lives as long as the context does: what no source supplied is computed long after the load has ended. At that end it has
// closed its sources and the pack's file, and no thread works for it. Failures end up in the context's note and nowhere
// else: what is missing is computed. The functions of ComputeWork, note() and stop() may be called from any thread.
class ContextLoad final : public ComputeWork,
                          private LoadHands,
                          private WorkPlaces,
                          public std::enable_shared_from_this<ContextLoad> {
 public:
  // `context` must outlive this; workers and timer must until the load has ended.
  ContextLoad(LoadParts parts, LoadWorkers& workers, LoadTimer& timer, ResidentContext& context, PackIdentity identity,
              const PlanOptions& options);

  // Before start() or, from its `more`, within it.
  void add_source(std::unique_ptr<BlockSource> source);
  // What an earlier load left of this pack on disk. Before start().
  void set_leftover(PackPart part) { sink_.set_leftover(std::move(part)); }
  // Why a source is not among them, for the user.
  void note(const std::string& why) { state_.note(why); }

  // Reads from the sources until the context is complete and kept, or no source is left; returns at once. When those given
  // first have failed before that, asks `more` to add others, once. `ended` is called at the end, maybe within this call;
  // until then this load and its context stay alive. Neither may block.
  void start(std::shared_ptr<ResidentContext> context, std::function<void()> more, std::function<void()> ended);
  // Ends it soon, whatever is missing.
  void stop();
  bool stopped() const { return state_.stopped(); }

  bool wants_unit() override { return state_.wants_unit(); }
  void unit_computed(double part, TimePoint began) override { state_.unit_computed(part, began); }
  std::shared_ptr<const KvTuning> tuning() const override { return parts_.tuning; }
  // A studied pack has no block of what is computed here, and a state has no rows.
  bool wants_rows() const override {
    return !identity_.studied() && !identity_.opaque() && !state_.ending() && keeper_.wants_anything();
  }
  void layer_computed(int layer, KvSegment& from, std::vector<float> k, std::vector<float> v) override;
  void set_deadline(TimePoint deadline) override { state_.set_deadline(deadline); }

 private:
  void open(SourceId source, std::optional<ActiveTransfer> early) override;
  void read(SourceId source, ActiveTransfer transfer) override;
  void cancel_opening(SourceId source) override { reader(source).cancel_opening(); }
  void fall_back() override;
  void keep_rows() override;
  void close(bool on_worker) override;
  void review_at(TimePoint when) override;

  Result<bool> take(LoadWork work) override;
  void put_back(LoadWork work) override { workers_.put_back(work); }

  SourceReader& reader(SourceId source) { return readers_[static_cast<std::size_t>(source)]; }
  PackKeeping keeping() const { return {.wants_blocks = keeper_.wants_anything(), .complete = keeper_.complete()}; }
  void run(LoadWork work, std::function<void()> job, const std::function<void(const Error&)>& failed);
  void commit();
  void close_all();

  const LoadParts parts_;
  LoadWorkers& workers_;
  LoadTimer& timer_;
  const std::uint64_t number_;
  ResidentContext& context_;
  const PackIdentity identity_;
  LoadState state_;
  PackKeeper keeper_;
  BlockSink sink_;
  std::deque<SourceReader> readers_;  // by SourceId; grows only, before start() and in fall_back()
  std::stop_source stopping_;
  // Of a load that has not ended.
  std::shared_ptr<ResidentContext> held_;
  std::function<void()> more_;
  std::function<void()> ended_;
};

}  // namespace celslm
