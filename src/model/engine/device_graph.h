// The ggml graph of one pass over layers on a device: generic operators only, so that any backend can compute it.
//
// Attention to a chunk's own rows alone is one flash-attention operator where the device has it. Behind a context it is
// written out, since the context's rows lie elsewhere: scores with the context, computed once for all adjacent chunks that
// share it, and scores with each chunk's own rows are joined; one softmax; a product with the values of either part.
#pragma once

#include <ggml-cpp.h>

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/device/device_segment.h"
#include "model/engine/batch.h"
#include "model/engine/device_model.h"
#include "model/engine/graph.h"

namespace celslm {

// A batch with its segments' places on the device, chunk by chunk. All own segments are of one type; those of chunks that
// share a context have room for as many rows as the longest of them has.
struct DeviceBatch {
  std::span<const SequenceChunk> chunks;
  std::vector<const DeviceSegment*> contexts;  // null: none, or one that shows no rows
  std::vector<DeviceSegment*> owns;
};

// What is on the device already; null: the graph has an input or output of its own, to be copied from or to the host.
struct DevicePlaces {
  ggml_tensor* in = nullptr;         // hidden states: f32 [n_embd, n_tokens]
  ggml_tensor* out = nullptr;        // the same; may be the same memory
  ggml_tensor* positions = nullptr;  // i32 [n_tokens]
  ggml_tensor* own_rows = nullptr;   // i64 [n_tokens], in the chunks' segments
};

class DeviceGraph {
 public:
  // Enters with hidden states (shape.from_tokens is not looked at). Everything given must outlive this. kUnavailable, naming
  // operator and types, if the device cannot compute a node: it is never computed elsewhere instead. kOverloaded, with
  // sizes, where scratch memory cannot be had.
  static Result<std::unique_ptr<DeviceGraph>> build(const ModelConfig& config, const DeviceModel& model,
                                                    const DeviceBatch& batch, const PassShape& shape,
                                                    const DevicePlaces& places, ggml_gallocr_t scratch);

  ggml_cgraph* cgraph() const { return graph_; }
  // Copies what the batch gives the graph besides hidden states. Before it runs; nothing that uses the same scratch memory
  // may still be running.
  void set_inputs() const;
  ggml_tensor* hidden() const { return hidden_; }  // the input; null if it has a place
  ggml_tensor* result() const { return result_; }  // f32 [n_embd, n_tokens] or [n_vocab, n_outputs]; null if it has a place
  // K before bias and RoPE, and V, both rounded: [kv_width, n_tokens] of export_type(), of a layer of the shape.
  ggml_tensor* k(int layer) const { return exports_[static_cast<std::size_t>(layer - first_)].k; }
  ggml_tensor* v(int layer) const { return exports_[static_cast<std::size_t>(layer - first_)].v; }

 private:
  friend class DeviceGraphBuilder;
  struct Input {
    ggml_tensor* tensor = nullptr;
    std::vector<std::byte> data;
  };
  struct Exports {
    ggml_tensor* k = nullptr;
    ggml_tensor* v = nullptr;
  };
  DeviceGraph() = default;
  Status check(const OpenDevice& device) const;
  Status allocate(const OpenDevice& device, ggml_gallocr_t scratch) const;

  int first_ = 0;
  ggml_context_ptr context_;
  ggml_cgraph* graph_ = nullptr;
  ggml_tensor* hidden_ = nullptr;
  ggml_tensor* result_ = nullptr;
  std::vector<Input> inputs_;
  std::vector<Exports> exports_;
};

// What K before RoPE and V are rounded to: the cache's type, or f16 for q8.
ggml_type export_type(KvType type);

}  // namespace celslm
