// One context on its way into memory: threads that read from sources, the engine that computes, and the plan between them.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "model/engine/model.h"
#include "plan/load_plan.h"
#include "serve/context/resident_context.h"
#include "serve/load/block_source.h"
#include "serve/load/pack_keeper.h"
#include "serve/load/source_memory.h"

namespace celslm {

inline constexpr Duration kSourceRest = std::chrono::seconds(5);     // a source that failed is left alone this long
inline constexpr Duration kBlockDeadline = std::chrono::seconds(3);  // a flight that has not moved for so long is broken off

struct LoadParts {
  std::shared_ptr<const Model> model;
  std::shared_ptr<PackStore> store;  // may be null
  std::shared_ptr<SourceMemory> memory;
  const Clock* clock = nullptr;
  Log log;
};

// Thread-safe. Lives as long as the context does: what no source gave is computed long after the sources' threads are gone.
class ContextLoad final : public ComputeWork {
 public:
  // `context` must outlive this.
  ContextLoad(LoadParts parts, ResidentContext& context, PackIdentity identity, const PlanOptions& options);

  // Before run() or, from its `more`, within it.
  void add_source(std::unique_ptr<BlockSource> source);
  // What an earlier load left of this pack on disk: used as soon as a source says what its blocks should be. Before run().
  void set_leftover(PackPart part) { leftover_ = std::move(part); }
  // Why a source is not among them, for the user.
  void note(const std::string& why);

  // Reads from the sources until the context is complete and kept, or they are all gone; joins all its threads. When those
  // given first are gone before that, asks `more` to add others, once. Failures end up in the context's note and nowhere
  // else: what is missing is computed.
  void run(const std::function<void()>& more, std::stop_token stop);

  bool wants_unit() override;
  void unit_computed(double part, TimePoint began) override;
  bool wants_rows() const override;
  void layer_computed(int layer, KvSegment& from, std::vector<float> k, std::vector<float> v) override;
  void set_deadline(TimePoint deadline) override;

  // Bytes that sources named `kind` have sent, whether used or not.
  std::uint64_t received(Source kind) const;

 private:
  struct Supplier {
    std::unique_ptr<BlockSource> source;
    SourceId id = 0;
    std::vector<BlockEntry> entries;  // [n_blocks]; bytes == 0: not announced. protected by mutex_
    std::optional<Error> error;       // the last one. protected by mutex_
    std::uint64_t received = 0;       // protected by mutex_
    bool opened = false;              // open() has ended well. protected by mutex_
  };
  struct ComputedLayer {
    int layer = 0;
    std::vector<float> k;
    std::vector<float> v;
  };

  void start_threads(std::vector<std::jthread>& threads);
  // A request for blocks, while it is under way. `checked`: what was wrong with a block that came.
  struct Reading {
    Transfer transfer;
    int next = 0;
    Status checked;
    std::stop_source cut;
  };
  void open(Supplier& supplier, std::stop_token stop);
  void announce(Supplier& supplier, int first, std::span<const BlockEntry> entries);
  void opened(Supplier& supplier, const Status& status);
  void work(Supplier& supplier, std::stop_token stop);
  void fly(Supplier& supplier, Reading& reading, std::stop_token stop);
  Reading begin_reading(const Transfer& transfer);  // with mutex_ held
  BlockSource::Reader reader(Supplier& supplier, Reading& reading);
  void end_reading(Supplier& supplier, const Reading& reading, const Status& read, std::stop_token stop);
  TransferEnd end_of(Supplier& supplier, const Reading& reading, const Status& read, bool overdue);  // with mutex_ held
  void take_leftovers(int first, std::span<const BlockEntry> entries);
  Status use_block(int index, const BlockEntry& entry, ByteView bytes, Source source);
  bool take_block(Supplier& supplier, Reading& reading, ByteView bytes);
  void block_held(int index, Source source);        // with mutex_ held; publish() follows
  void publish(std::unique_lock<std::mutex> lock);  // releases it
  LayerOrigin origin_of(int layer) const;           // with mutex_ held
  void supervise(std::stop_token stop, bool with_keeping);
  void tick();
  void keep_computed();
  bool nothing_more(bool with_keeping) const;  // with mutex_ held
  void commit(std::stop_token stop);
  void conclude();                        // with mutex_ held
  void add_note(const std::string& why);  // with mutex_ held
  TimePoint now() const { return parts_.clock->now(); }

  const LoadParts parts_;
  ResidentContext& context_;
  const PackIdentity identity_;
  const TimePoint began_;
  std::optional<PackPart> leftover_;  // constant once run() has begun

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  LoadPlan plan_;                   // protected by mutex_, as all below
  std::deque<Supplier> suppliers_;  // grows only
  std::size_t n_started_ = 0;       // of them, have threads
  struct Cut {
    std::stop_source stop;
    bool overdue = false;
  };
  std::map<TransferId, Cut> cuts_;               // of flights under way
  std::vector<std::array<int, 5>> blocks_from_;  // [n_layers][Source]
  std::vector<int> filled_;                      // layers to be published
  std::deque<ComputedLayer> computed_;           // to be kept
  std::string note_;
  LoadReport report_;

  mutable std::mutex keep_mutex_;  // taken after mutex_, or alone
  PackKeeper keeper_;              // protected by keep_mutex_
};

}  // namespace celslm
