// What is known of a load while threads work on it: the plan, what its sources have announced, who supplied which block.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "core/mutex.h"
#include "core/timed_condition.h"
#include "kv/pack/pack.h"
#include "plan/load_plan.h"
#include "serve/context/resident_context.h"
#include "serve/load/load_parts.h"

namespace celslm {

// A transfer while a thread carries it out. Used by that thread alone, but for the cancelling.
struct ActiveTransfer {
  TransferId id = 0;
  BlockRange blocks;
  int next = 0;             // the block that arrives next
  Status checked;           // what was wrong with a block that arrived
  std::stop_source cancel;  // requested when it has stalled or nothing of it is missing any more
};

// Everything under one mutex; the context is told of new layers with no lock held. Thread-safe. `parts`, `context` and
// `identity` must outlive this.
class LoadState {
 public:
  LoadState(const LoadParts& parts, ResidentContext& context, const PackIdentity& identity, const PlanOptions& options);

  // --- sources
  SourceId add_source(Source kind, std::string name, const SourceTraits& traits) CELSLM_EXCLUDES(mutex_);
  // These blocks can be asked for.
  void offer(SourceId source, int first, std::span<const BlockEntry> entries) CELSLM_EXCLUDES(mutex_);
  // BlockSource::open() has returned this. A source that failed supplies nothing more.
  void opened(SourceId source, const Status& status) CELSLM_EXCLUDES(mutex_);
  bool is_opened(SourceId source) const CELSLM_EXCLUDES(mutex_);  // without error
  bool any_opened() const CELSLM_EXCLUDES(mutex_);
  // Whether no source will announce anything more.
  bool all_announced() const CELSLM_EXCLUDES(mutex_);
  std::vector<BlockEntry> entries(SourceId source, BlockRange blocks) const CELSLM_EXCLUDES(mutex_);
  // Remembers what was measured of the sources, which supply nothing from now on.
  void retire_sources() CELSLM_EXCLUDES(mutex_);

  // --- transfers, by a source's threads
  // The one to begin while the source is being opened, if any.
  std::optional<ActiveTransfer> next_with_header(SourceId source) CELSLM_EXCLUDES(mutex_);
  // Waits for the next one; nullopt once there will be none for this source, or `stop` is requested.
  std::optional<ActiveTransfer> wait_for_transfer(SourceId source, std::stop_token stop) CELSLM_EXCLUDES(mutex_);
  void bytes_arrived(TransferId transfer, std::size_t bytes) CELSLM_EXCLUDES(mutex_);
  // The next block of a transfer is here and is what was signed. True if it is the caller's to write.
  bool claim_next(TransferId transfer, std::size_t bytes) CELSLM_EXCLUDES(mutex_);
  bool is_needed(TransferId transfer) const CELSLM_EXCLUDES(mutex_);
  // `read`: what BlockSource returned for it. `stopping`: it ended because the load does.
  void ended(SourceId source, const ActiveTransfer& transfer, const Status& read, bool stopping) CELSLM_EXCLUDES(mutex_);

  // --- blocks: who has claimed one writes it and then reports which of the two came of it
  bool claim(int block) CELSLM_EXCLUDES(mutex_);
  void written(int block, Source source) CELSLM_EXCLUDES(mutex_);
  void released(int block) CELSLM_EXCLUDES(mutex_);

  // --- local compute, see ComputeWork
  bool wants_compute() CELSLM_EXCLUDES(mutex_);
  void unit_computed(double part, TimePoint began) CELSLM_EXCLUDES(mutex_);
  // The blocks of a computed layer that are the caller's to write; layer_written() ends that.
  std::vector<int> claim_layer(int layer) CELSLM_EXCLUDES(mutex_);
  void layer_written(std::span<const int> blocks) CELSLM_EXCLUDES(mutex_);
  void set_deadline(TimePoint deadline) CELSLM_EXCLUDES(mutex_);

  // --- supervision
  enum class Progress { kLoading, kNoSourceLeft, kComplete };
  Progress progress() const CELSLM_EXCLUDES(mutex_);
  // Cancels transfers that have stalled or that nobody needs, and makes the forecast that the report compares with.
  void check_transfers() CELSLM_EXCLUDES(mutex_);
  // Counts changes that may let a waiting thread go on.
  std::uint64_t changes() const CELSLM_EXCLUDES(mutex_);
  // Waits until changes() is not `seen` any more, or LoadPlan::patience() is over.
  void wait_for_change(std::uint64_t seen, std::stop_token stop) CELSLM_EXCLUDES(mutex_);
  // Why a source is not used, for the user.
  void note(const std::string& why) CELSLM_EXCLUDES(mutex_);

 private:
  struct SourceRecord {
    Source kind = Source::kCloud;
    std::string name;
    std::vector<BlockEntry> entries;  // [n_blocks]; bytes == 0: not announced
    std::optional<Error> error;       // the last one
    bool opened = false;
  };
  struct Cancel {
    std::stop_source stop;
    bool stalled = false;
  };

  ActiveTransfer activate(const Transfer& transfer) CELSLM_REQUIRES(mutex_);
  TransferEnd how_it_ended(SourceRecord& source, const ActiveTransfer& transfer, const Status& read, bool stalled)
      CELSLM_REQUIRES(mutex_);
  void back_off(const SourceRecord& source) CELSLM_REQUIRES(mutex_);
  void block_written(int block, Source source) CELSLM_REQUIRES(mutex_);
  // Layers that have become complete, to be passed to announce_layers() without the lock.
  std::vector<std::pair<int, LayerOrigin>> take_filled() CELSLM_REQUIRES(mutex_);
  void announce_layers(const std::vector<std::pair<int, LayerOrigin>>& layers) CELSLM_EXCLUDES(mutex_);
  LayerOrigin origin_of(int layer) const CELSLM_REQUIRES(mutex_);
  Provenance provenance_of(int layer, Source most) const CELSLM_REQUIRES(mutex_);
  void conclude() CELSLM_REQUIRES(mutex_);
  void add_note(const std::string& why) CELSLM_REQUIRES(mutex_);
  void notify() CELSLM_REQUIRES(mutex_);
  SourceRecord& record(SourceId id) CELSLM_REQUIRES(mutex_) { return sources_[static_cast<std::size_t>(id)]; }
  const SourceRecord& record(SourceId id) const CELSLM_REQUIRES(mutex_) { return sources_[static_cast<std::size_t>(id)]; }
  TimePoint now() const { return parts_.clock->now(); }

  const LoadParts& parts_;
  ResidentContext& context_;
  const PackIdentity& identity_;
  const TimePoint began_;

  mutable Mutex mutex_;
  TimedCondition changed_;
  std::uint64_t changes_ CELSLM_GUARDED_BY(mutex_) = 0;
  LoadPlan plan_ CELSLM_GUARDED_BY(mutex_);
  std::deque<SourceRecord> sources_ CELSLM_GUARDED_BY(mutex_);             // by SourceId
  std::map<TransferId, Cancel> cancels_ CELSLM_GUARDED_BY(mutex_);         // of transfers under way
  std::vector<std::array<int, 5>> blocks_from_ CELSLM_GUARDED_BY(mutex_);  // [n_layers][Source]
  std::vector<int> filled_ CELSLM_GUARDED_BY(mutex_);                      // layers that are complete and not announced
  std::string note_ CELSLM_GUARDED_BY(mutex_);
  LoadReport report_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
