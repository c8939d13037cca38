// A context whose KV is in memory, or on its way there.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/memory_ledger.h"
#include "core/mutex.h"
#include "core/result.h"
#include "kv/pack/context_handle.h"
#include "model/kv/kv_segment.h"
#include "serve/context/compute_work.h"
#include "serve/context/layer_origin.h"

namespace celslm {

// One context at an edge. Its layers become ready one after the other, from 0 up; a loader and the engine's thread fill
// them. Thread-safe.
class ResidentContext {
 public:
  // study: the training that is to supply its KV; none: a row for each token. The segment is condensed where there is one.
  static Result<std::shared_ptr<ResidentContext>> create(const ContextHandle& handle, const ModelConfig& config,
                                                         const Hash256& id, std::vector<Token> tokens, KvType type,
                                                         const std::optional<ContextStudy>& study = {},
                                                         const std::string& tenant = {});

  const ContextHandle handle;
  const Hash256 id;
  const std::vector<Token> tokens;
  const std::optional<ContextStudy> study;
  const std::string tenant;                  // whose requests may use it; empty: the default one's
  const std::shared_ptr<KvSegment> segment;  // length() is the context's from the start; layers count once ready

  // The memory that the segment takes, returned when this ends. Before anybody else knows the context.
  void hold(MemoryLease lease) { lease_ = std::move(lease); }

  int n_layers() const { return segment->n_layers(); }
  int ready_layers() const { return ready_.load(std::memory_order_acquire); }  // [0, ready) may be attended to
  bool complete() const { return ready_layers() == n_layers(); }
  // What is to be computed for this context; null once it is complete.
  std::shared_ptr<ComputeWork> compute_work() const CELSLM_EXCLUDES(mutex_);

  // Layers may be filled in any order; each once. Publishes what was written to the segment before the call.
  void layer_filled(int layer, LayerOrigin origin) CELSLM_EXCLUDES(mutex_);
  bool filled(int layer) const CELSLM_EXCLUDES(mutex_);
  void add_bytes(std::uint64_t bytes) { bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void set_codec(std::string codec, std::string reason) CELSLM_EXCLUDES(mutex_);  // and why it was chosen, for the user
  void set_compute_work(std::shared_ptr<ComputeWork> work) CELSLM_EXCLUDES(mutex_);
  void set_note(std::string note) CELSLM_EXCLUDES(mutex_);  // why sources were not used, for the user
  void set_load_report(const LoadReport& report) CELSLM_EXCLUDES(mutex_);
  // Wakes the engine's thread: there may be something to compute for this context.
  void changed() CELSLM_EXCLUDES(mutex_);

  // `call` runs at each changed() and layer_filled(), on their thread, with no lock held.
  void on_change(std::function<void()> call) CELSLM_EXCLUDES(mutex_);

  struct Report {
    std::vector<LayerOrigin> layers;
    std::uint64_t bytes = 0;
    std::string codec;
    std::string codec_reason;
    std::string note;
    LoadReport load;
  };
  Report report() const CELSLM_EXCLUDES(mutex_);

 private:
  ResidentContext(const ContextHandle& handle, const Hash256& id, std::vector<Token> tokens,
                  const std::optional<ContextStudy>& study, const std::string& tenant, std::shared_ptr<KvSegment> segment);

  MemoryLease lease_;
  std::atomic<int> ready_{0};
  std::atomic<std::uint64_t> bytes_{0};
  mutable Mutex mutex_;
  std::vector<bool> filled_ CELSLM_GUARDED_BY(mutex_);          // [n_layers]
  std::vector<LayerOrigin> origins_ CELSLM_GUARDED_BY(mutex_);  // [n_layers]
  std::string codec_ CELSLM_GUARDED_BY(mutex_);
  std::string codec_reason_ CELSLM_GUARDED_BY(mutex_);
  std::string note_ CELSLM_GUARDED_BY(mutex_);
  LoadReport load_ CELSLM_GUARDED_BY(mutex_);
  std::shared_ptr<ComputeWork> work_ CELSLM_GUARDED_BY(mutex_);
  std::function<void()> on_change_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
