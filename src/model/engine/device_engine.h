// A model's first layers, or all of them, on a device: what Engine does there.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine/batch.h"
#include "model/engine/device_graph.h"
#include "model/engine/device_model.h"
#include "model/engine/engine.h"

namespace celslm {

// Host memory that a device copies into while the CPU does something else.
class Staging {
 public:
  explicit Staging(const OpenDevice& device) : type_(device.staging_type()) {}
  // At least so many bytes; what was in it is lost if it has to grow. Null where there is no memory.
  std::byte* bytes(std::size_t size);

 private:
  ggml_backend_buffer_type_t type_;
  ggml_backend_buffer_ptr buffer_;
};

// One thread at a time. Inputs are checked by the caller (Engine).
//
// What the device computes of K and V leaves as in a pack (K before bias and RoPE, rounded), and goes into the host's
// segments by Engine::import_rows, as a pack's blocks do. The device goes on with its own rounding of the rotated K.
class DeviceEngine {
 public:
  // model: loaded with a device; outlives this.
  static Result<std::unique_ptr<DeviceEngine>> create(const Model& model);

  int n_layers() const { return device_model_.n_layers(); }
  bool has_head() const { return device_model_.has_head(); }

  // As Engine::run_layers; last <= n_layers().
  Status run_layers(int first, int last, std::span<const SequenceChunk> batch, Hidden& hidden, const KvTap& tap);
  // Logits of all rows of `hidden`, with has_head() only; valid until the next call.
  Result<std::span<const float>> logits(const Hidden& hidden);
  // All layers, and logits of the last token of each chunk; with has_head() only. Lengths do not change.
  Result<std::span<const float>> forward(std::span<const SequenceChunk> batch, const Hidden& hidden);

 private:
  DeviceEngine(const Model& model, const DeviceModel& device_model);
  Result<std::span<const float>> run(const PassShape& shape, std::span<const SequenceChunk> batch,
                                     std::span<const float> hidden, const KvTap& tap);
  Result<DeviceBatch> place(const PassShape& shape, std::span<const SequenceChunk> batch);
  Status compute(ggml_cgraph* graph);
  Status hand_on(const DeviceGraph& graph, const PassShape& shape, std::span<const SequenceChunk> batch,
                 const DeviceBatch& placed, const KvTap& tap);

  const Model& model_;
  const DeviceModel& device_model_;
  const std::shared_ptr<OpenDevice> device_;
  ggml_backend_ptr backend_;
  ggml_gallocr_ptr scratch_;
  Staging staging_;
  DeviceSegments segments_;
  std::vector<float> result_;
};

// One step's rows of a layer as they lie in staging memory, f32: [n][kv_width].
void widen_export(KvType type, const std::byte* from, std::span<float> to);

// Runs what a driver may throw from (memory that it takes in the middle of a computation).
Status compute_on(const OpenDevice& device, ggml_backend_t backend, ggml_cgraph* graph);

}  // namespace celslm
