// Prefill of a context on a device, with copying hidden behind computing: hidden states stay there, and the KV of one step
// of one layer is copied to host memory while the next step is computed.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/device/device_segment.h"
#include "model/engine/device_engine.h"
#include "model/engine/device_graph.h"
#include "model/engine/engine.h"

namespace celslm {

// For a model all of whose layers are on the device. Of KV it keeps one layer there at a time. One thread at a time.
class DevicePrefill {
 public:
  // hidden: the context's embeddings, step by step (kPrefillStep tokens each but the last). segment: tells the type, and
  // where rows are. kOverloaded, with sizes, where the device has no memory for it. The model must outlive this. copies:
  // false to measure what copying costs: rows are handed on, but hold anything.
  static Result<std::unique_ptr<DevicePrefill>> start(const Model& model, std::span<const Hidden> hidden,
                                                      std::shared_ptr<KvSegment> segment, bool copies = true);
  ~DevicePrefill();
  DevicePrefill(const DevicePrefill&) = delete;
  DevicePrefill& operator=(const DevicePrefill&) = delete;

  // K before bias and RoPE and V of rows [first_row, ..), both rounded, [n][kv_width].
  using OnRows = std::function<Status(int layer, int first_row, std::span<const float> k, std::span<const float> v)>;

  // Begins the next step of the current layer, if there is one, and hands on the rows of the step before: one call more than
  // there are steps, so that no call ends two layers. Must not be called again after an error.
  Status advance(const OnRows& on_rows);

 private:
  struct Step {
    int first_row = 0;
    int n_tokens = 0;
    DevicePlaces places;  // views of hidden_, positions_ and own_rows_
  };
  struct Slot {  // of a unit (a step of a layer) under way; there are two, taken in turn
    ggml_gallocr_ptr scratch;
    ggml_backend_event_ptr done;  // null: the device has no events
    std::unique_ptr<DeviceGraph> graph;
    std::unique_ptr<Staging> staging;
    std::byte* staged = nullptr;  // K, then V; null: nothing is under way
    std::size_t plane_bytes = 0;
    int layer = 0;
    const Step* step = nullptr;
  };

  DevicePrefill(const Model& model, std::shared_ptr<KvSegment> segment);
  Status allocate(std::span<const Hidden> hidden);
  Status begin_unit(Slot& slot, int layer, const Step& step);
  Status end_unit(Slot& slot, const OnRows& on_rows);

  const Model& model_;
  const DeviceModel& device_model_;
  const std::shared_ptr<OpenDevice> device_;
  const std::shared_ptr<KvSegment> segment_;
  ggml_context_ptr context_;
  DeviceBuffer buffer_;
  ggml_tensor* hidden_ = nullptr;  // f32 [n_embd, n_tokens of the context]
  std::unique_ptr<DeviceSegment> layer_kv_;
  ggml_backend_ptr backend_;  // after all memory that it uses: it ends first
  std::vector<Step> steps_;
  std::array<Slot, 2> slots_;
  bool copies_ = true;
  int begun_ = 0;  // calls: units that were begun, and at the end one more
  int n_units_ = 0;
};

}  // namespace celslm
