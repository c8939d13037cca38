// A load as its threads see it: the coordinator, and what is known of its sources and blocks, under one mutex.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "core/mutex.h"
#include "kv/pack/pack.h"
#include "plan/load_coordinator.h"
#include "serve/context/resident_context.h"
#include "serve/load/load_parts.h"

namespace celslm {

// A transfer while a worker carries it out. Used by that worker alone, but for the cancelling.
struct ActiveTransfer {
  TransferId id = 0;
  BlockRange blocks;
  int next = 0;             // the block that arrives next
  Status checked;           // what was wrong with a block that arrived
  std::stop_source cancel;  // requested when it has stalled, nothing of it is missing any more, or the load ends
};

// Who carries out what the coordinator orders. Called with no lock held, one order after the other, by the thread whose
// event led to it or by one that was at it already: also the engine's, so nothing here may block.
class LoadHands {
 public:
  virtual ~LoadHands() = default;
  virtual void open(SourceId source, std::optional<ActiveTransfer> early) = 0;
  virtual void read(SourceId source, ActiveTransfer transfer) = 0;
  virtual void cancel_opening(SourceId source) = 0;
  virtual void fall_back() = 0;
  virtual void keep_rows() = 0;
  virtual void close(bool on_worker) = 0;
  // LoadState::tick() is to be called then. With the state's lock held.
  virtual void review_at(TimePoint when) = 0;
};

// Reports of workers and of the engine become events of the coordinator; none waits for anything but this mutex, which
// nobody holds while he reads, writes or waits. Thread-safe. Everything given must outlive this.
class LoadState {
 public:
  LoadState(const LoadParts& parts, ResidentContext& context, const PackIdentity& identity, const PlanOptions& options,
            WorkPlaces& places, LoadHands& hands);

  // --- the load's owner, see LoadCoordinator
  SourceId add_source(Source kind, std::string name, const SourceTraits& traits) CELSLM_EXCLUDES(mutex_);
  void start() CELSLM_EXCLUDES(mutex_);
  void fell_back() CELSLM_EXCLUDES(mutex_);
  void stop() CELSLM_EXCLUDES(mutex_);
  bool stopped() const CELSLM_EXCLUDES(mutex_);
  // Remembers what was measured of the sources.
  void closed() CELSLM_EXCLUDES(mutex_);
  void tick() CELSLM_EXCLUDES(mutex_);
  void places_free() CELSLM_EXCLUDES(mutex_);
  // Why a source is not used, for the user.
  void note(const std::string& why) CELSLM_EXCLUDES(mutex_);

  // --- sources, by workers
  // These blocks can be asked for.
  void offer(SourceId source, int first, std::span<const BlockEntry> entries) CELSLM_EXCLUDES(mutex_);
  // BlockSource::open() has returned this. A source that failed supplies nothing more.
  void opened(SourceId source, const Status& status) CELSLM_EXCLUDES(mutex_);
  bool is_opened(SourceId source) const CELSLM_EXCLUDES(mutex_);  // without error
  std::vector<BlockEntry> entries(SourceId source, BlockRange blocks) const CELSLM_EXCLUDES(mutex_);
  void bytes_arrived(TransferId transfer, std::size_t bytes) CELSLM_EXCLUDES(mutex_);
  // The next block of a transfer is here and is what was signed. True if it is the caller's to write.
  bool verified(TransferId transfer, int block, std::size_t bytes) CELSLM_EXCLUDES(mutex_);
  bool is_needed(TransferId transfer) const CELSLM_EXCLUDES(mutex_);
  // `read`: what BlockSource returned for it.
  void ended(SourceId source, const ActiveTransfer& transfer, const Status& read) CELSLM_EXCLUDES(mutex_);

  // --- blocks: who has claimed one writes it and then reports which of the two came of it
  bool claim(int block) CELSLM_EXCLUDES(mutex_);
  void written(int block, Source source) CELSLM_EXCLUDES(mutex_);
  void released(int block) CELSLM_EXCLUDES(mutex_);
  // --- the pack on disk
  void keeping(const PackKeeping& now) CELSLM_EXCLUDES(mutex_);
  void rows_to_keep() CELSLM_EXCLUDES(mutex_);
  void rows_kept() CELSLM_EXCLUDES(mutex_);

  // --- local compute, see ComputeWork
  bool wants_unit() CELSLM_EXCLUDES(mutex_);
  void unit_computed(double part, TimePoint began) CELSLM_EXCLUDES(mutex_);
  // The blocks of a computed layer that are the caller's to write; layer_written() ends that.
  std::vector<int> claim_layer(int layer) CELSLM_EXCLUDES(mutex_);
  void layer_written(std::span<const int> blocks) CELSLM_EXCLUDES(mutex_);
  std::vector<int> blocks_written(int layer) const CELSLM_EXCLUDES(mutex_);  // so far
  void set_deadline(TimePoint deadline) CELSLM_EXCLUDES(mutex_);
  bool ending() const CELSLM_EXCLUDES(mutex_);  // nothing more is read or kept

 private:
  struct SourceRecord {
    Source kind = Source::kCloud;
    std::string name;
    std::vector<BlockEntry> entries;  // [n_blocks]; bytes == 0: not announced
    std::optional<Error> error;       // the last one
    bool noted = false;               // that it supplies nothing more
  };
  using Effect = std::function<void()>;

  // Behind every event: what the coordinator ordered, until nothing is left to do. Releases the mutex for it.
  void carry_out() CELSLM_REQUIRES(mutex_);
  void set_review() CELSLM_REQUIRES(mutex_);
  Effect effect_of(const OpenSource& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const ReadBlocks& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const CancelTransfer& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const CancelOpening& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const LayerComplete& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const WakeEngine& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const FallBack& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const GiveUpSources& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const SourceSpent& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const KeepRows& order) CELSLM_REQUIRES(mutex_);
  Effect effect_of(const CloseLoad& order) CELSLM_REQUIRES(mutex_);

  ActiveTransfer activate(const Transfer& transfer) CELSLM_REQUIRES(mutex_);
  TransferEnd how_it_ended(SourceRecord& source, const ActiveTransfer& transfer, const Status& read) CELSLM_REQUIRES(mutex_);
  void note_if_dead(SourceId source) CELSLM_REQUIRES(mutex_);
  void report_refused(const SourceRecord& source) CELSLM_REQUIRES(mutex_);
  LayerOrigin origin_of(int layer) const CELSLM_REQUIRES(mutex_);
  Provenance provenance_of(int layer, Source most) const CELSLM_REQUIRES(mutex_);
  void count_block(int block, Source source) CELSLM_REQUIRES(mutex_);
  void conclude() CELSLM_REQUIRES(mutex_);
  void add_note(const std::string& why) CELSLM_REQUIRES(mutex_);
  SourceRecord& record(SourceId id) CELSLM_REQUIRES(mutex_) { return sources_[static_cast<std::size_t>(id)]; }
  const SourceRecord& record(SourceId id) const CELSLM_REQUIRES(mutex_) { return sources_[static_cast<std::size_t>(id)]; }
  TimePoint now() const { return parts_.clock->now(); }

  const LoadParts& parts_;
  ResidentContext& context_;
  const PackIdentity& identity_;
  LoadHands& hands_;
  const TimePoint began_;

  mutable Mutex mutex_;
  LoadCoordinator coordinator_ CELSLM_GUARDED_BY(mutex_);
  std::deque<SourceRecord> sources_ CELSLM_GUARDED_BY(mutex_);                // by SourceId
  std::map<TransferId, std::stop_source> cancels_ CELSLM_GUARDED_BY(mutex_);  // of transfers under way
  std::vector<std::array<int, 5>> blocks_from_ CELSLM_GUARDED_BY(mutex_);     // [n_layers][Source]
  std::string note_ CELSLM_GUARDED_BY(mutex_);
  LoadReport report_ CELSLM_GUARDED_BY(mutex_);
  bool concluded_ CELSLM_GUARDED_BY(mutex_) = false;
  bool stopped_ CELSLM_GUARDED_BY(mutex_) = false;
  bool budget_noted_ CELSLM_GUARDED_BY(mutex_) = false;
  std::optional<TimePoint> review_ CELSLM_GUARDED_BY(mutex_);  // when tick() has been asked for
  std::deque<Effect> effects_ CELSLM_GUARDED_BY(mutex_);
  bool carrying_out_ CELSLM_GUARDED_BY(mutex_) = false;  // a thread is at it
};

}  // namespace celslm
