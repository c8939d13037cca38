// One context on its way into memory: threads that read from sources, the engine that computes, and the plan between them.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "plan/load_plan.h"
#include "serve/context/resident_context.h"
#include "serve/load/block_sink.h"
#include "serve/load/block_source.h"
#include "serve/load/load_parts.h"
#include "serve/load/load_state.h"
#include "serve/load/pack_keeper.h"
#include "serve/load/source_reader.h"

namespace celslm {

// Lives as long as the context does: what no source supplied is computed long after the sources' threads have ended. The
// functions of ComputeWork and note() may be called from any thread; the others from the thread that calls run(), or before.
class ContextLoad final : public ComputeWork {
 public:
  // `context` must outlive this.
  ContextLoad(LoadParts parts, ResidentContext& context, PackIdentity identity, const PlanOptions& options);

  // Before run() or, from its `more`, within it.
  void add_source(std::unique_ptr<BlockSource> source);
  // What an earlier load left of this pack on disk. Before run().
  void set_leftover(PackPart part) { sink_.set_leftover(std::move(part)); }
  // Why a source is not among them, for the user.
  void note(const std::string& why) { state_.note(why); }

  // Reads from the sources until the context is complete and kept, or no source is left; joins all its threads. When those
  // given first have failed before that, asks `more` to add others, once. Failures end up in the context's note and nowhere
  // else: what is missing is computed.
  void run(const std::function<void()>& more, std::stop_token stop);

  bool wants_unit() override { return state_.wants_compute(); }
  void unit_computed(double part, TimePoint began) override { state_.unit_computed(part, began); }
  std::shared_ptr<const KvTuning> tuning() const override { return parts_.tuning; }
  // A studied pack has no block of what is computed here.
  bool wants_rows() const override { return !identity_.studied() && keeper_.wants_anything(); }
  void layer_computed(int layer, KvSegment& from, std::vector<float> k, std::vector<float> v) override;
  void set_deadline(TimePoint deadline) override { state_.set_deadline(deadline); }

 private:
  void read_sources(std::stop_token stop);
  bool nothing_more() const;
  void commit(std::stop_token stop);

  const LoadParts parts_;
  ResidentContext& context_;
  const PackIdentity identity_;
  LoadState state_;
  PackKeeper keeper_;
  BlockSink sink_;
  std::deque<SourceReader> readers_;  // grows only
};

}  // namespace celslm
