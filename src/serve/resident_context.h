// Contexts whose KV is in memory, or on its way there.
#pragma once

#include <array>
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
  Source source = Source::kCompute;  // of most of its blocks
  Duration after{};                  // from the beginning of the load
  std::array<int, 5> blocks{};       // by Source: where its blocks came from
};

// What whoever runs the engine computes for a context, unit by unit (a layer's step), from layer 0 up. Thread-safe.
class ComputeWork {
 public:
  virtual ~ComputeWork() = default;
  // Whether the next unit should be computed now. To be asked again and again while a request waits for the context.
  virtual bool wants_unit() = 0;
  // `part` of a layer is computed; the parts of a layer add up to 1.
  virtual void unit_computed(double part, TimePoint began) = 0;
  // Whether layer_computed() has a use for k and v.
  virtual bool wants_rows() const = 0;
  // A layer is computed: it lies in `from`, of the context's shape; k (before RoPE) and v: [n_tokens][kv_width], or empty.
  virtual void layer_computed(int layer, KvSegment& from, std::vector<float> k, std::vector<float> v) = 0;
  // The request that waits is prepared to wait until then for what others could supply.
  virtual void set_deadline(TimePoint deadline) = 0;
};

// What a load was expected to take, and took. Milliseconds; 0: not known.
struct LoadReport {
  double predicted_ms = 0;
  double took_ms = 0;
  std::uint64_t hedged_bytes = 0;  // that came twice, or too late
};

// One context at an edge. Its layers become ready one after the other, from 0 up; a loader fills them, together with whoever
// runs the engine. Thread-safe.
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
  // What is to be computed for this context; null once it is complete.
  std::shared_ptr<ComputeWork> compute_work() const;

  // Layers may be filled in any order; each once. Publishes what was written to the segment before the call.
  void layer_filled(int layer, LayerOrigin origin);
  bool filled(int layer) const;
  void add_bytes(std::uint64_t bytes) { bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void set_codec(std::string codec, std::string reason);  // and why it was chosen, for the user
  void set_compute_work(std::shared_ptr<ComputeWork> work);
  void set_note(std::string note);  // why sources were not used, for the user
  void set_load_report(const LoadReport& report);
  // Wakes who waits for this context: there may be something to compute.
  void changed();

  // Called (from any thread, without locks held) whenever something above changed.
  void on_change(std::function<void()> call);

  struct Report {
    std::vector<LayerOrigin> layers;
    std::uint64_t bytes = 0;
    std::string codec;
    std::string codec_reason;
    std::string note;
    LoadReport load;
  };
  Report report() const;

 private:
  ResidentContext(const ContextHandle& handle, const Hash256& id, std::vector<Token> tokens,
                  std::shared_ptr<KvSegment> segment);

  std::atomic<int> ready_{0};
  std::atomic<std::uint64_t> bytes_{0};
  mutable std::mutex mutex_;
  std::vector<bool> filled_;           // protected by mutex_
  std::vector<LayerOrigin> origins_;   // protected by mutex_
  std::string codec_;                  // protected by mutex_
  std::string codec_reason_;           // protected by mutex_
  std::string note_;                   // protected by mutex_
  LoadReport load_;                    // protected by mutex_
  std::shared_ptr<ComputeWork> work_;  // protected by mutex_
  std::function<void()> on_change_;    // protected by mutex_
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
  // Puts `better` where `known` is; false if it is not there any more. Who holds `known` keeps it.
  bool replace(const std::shared_ptr<ResidentContext>& known, const std::shared_ptr<ResidentContext>& better);
  std::vector<std::shared_ptr<ResidentContext>> all() const;
  // Null if there is none; does not count as use.
  std::shared_ptr<ResidentContext> find(const ContextHandle& handle) const;
  std::uint64_t bytes() const;
  std::uint64_t budget_bytes() const { return budget_bytes_; }
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
