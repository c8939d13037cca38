// Contexts whose KV is in memory, or on its way there.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "kv/pack.h"
#include "model/kv_segment.h"
#include "serve/protocol.h"

namespace celslm {

// Where a layer's KV came from.
enum class Source : std::uint8_t { kCompute, kMemory, kDisk, kPeer, kCloud };
const char* to_string(Source source);

struct LayerOrigin {
  Provenance provenance = Provenance::kNative;
  Source source = Source::kCompute;
};

// One context at an edge. Its layers become ready one after the other, from 0 up; a loader fills them until it gives up,
// then whoever runs the engine computes the rest. Thread-safe.
class ResidentContext {
 public:
  static Result<std::shared_ptr<ResidentContext>> create(const ContextHandle& handle, const ModelConfig& config,
                                                         const Hash256& id, std::vector<Token> tokens, KvType type);

  const ContextHandle handle;
  const Hash256 id;
  const std::vector<Token> tokens;
  const std::shared_ptr<KvSegment> segment;  // length() is the context's from the start; layers count once ready

  int n_layers() const { return segment->n_layers(); }
  int ready_layers() const { return ready_.load(std::memory_order_acquire); }  // [0, ready) may be attended to
  bool complete() const { return ready_layers() == n_layers(); }
  bool wants_compute() const { return wants_compute_.load(std::memory_order_acquire) && !complete(); }

  // Layers may be filled in any order; each once. Publishes what was written to the segment before the call.
  void layer_filled(int layer, LayerOrigin origin);
  bool filled(int layer) const;
  void add_bytes(std::uint64_t bytes) { bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void set_codec(std::string codec);
  // No source will fill the rest: it is to be computed here. `note` says why, for the user.
  void give_up(std::string note);

  // Called (from any thread, without locks held) whenever something above changed.
  void on_change(std::function<void()> call);

  struct Report {
    std::vector<LayerOrigin> layers;
    std::uint64_t bytes = 0;
    std::string codec;
    std::string note;
  };
  Report report() const;

 private:
  ResidentContext(const ContextHandle& handle, const Hash256& id, std::vector<Token> tokens,
                  std::shared_ptr<KvSegment> segment);
  void changed();

  std::atomic<int> ready_{0};
  std::atomic<bool> wants_compute_{false};
  std::atomic<std::uint64_t> bytes_{0};
  mutable std::mutex mutex_;
  std::vector<bool> filled_;          // protected by mutex_
  std::vector<LayerOrigin> origins_;  // protected by mutex_
  std::string codec_;                 // protected by mutex_
  std::string note_;                  // protected by mutex_
  std::function<void()> on_change_;   // protected by mutex_
};

// The contexts of one edge, bounded in bytes: the least recently used that nobody holds go first. Thread-safe.
class ContextTable {
 public:
  explicit ContextTable(std::uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // The context under this handle, made by `create` if there is none; `create` runs with the table locked and must not
  // block. `created` tells which. Contexts in use are never evicted, so the budget can be exceeded by what is in use.
  Result<std::shared_ptr<ResidentContext>> acquire(const ContextHandle& handle,
                                                   const std::function<Result<std::shared_ptr<ResidentContext>>()>& create,
                                                   bool* created);
  std::uint64_t bytes() const;
  std::size_t size() const;

 private:
  struct Slot {
    std::shared_ptr<ResidentContext> context;
    std::uint64_t used = 0;  // larger is later
  };
  void evict();  // with mutex_ held

  const std::uint64_t budget_bytes_;
  mutable std::mutex mutex_;
  std::unordered_map<ContextHandle, Slot> slots_;  // protected by mutex_
  std::uint64_t counter_ = 0;                      // protected by mutex_
};

}  // namespace celslm
