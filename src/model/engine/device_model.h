// A model's weights on a device, as its graphs there read them.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "model/config.h"
#include "model/device/open_device.h"
#include "model/engine/weights.h"

namespace celslm {

// Immutable after load; thread-safe. Engines of one model share it.
class DeviceModel {
 public:
  // The first n_layers layers and, if those are all, the output head. kUnavailable for a model of which graphs on a device
  // cannot compute something, which is named. kOverloaded where the device has no room, with the size needed and the size
  // free.
  static Result<std::unique_ptr<const DeviceModel>> load(std::shared_ptr<OpenDevice> device, const Weights& weights,
                                                         const ModelConfig& config, int n_layers);

  const std::shared_ptr<OpenDevice>& device() const { return device_; }
  int n_layers() const { return static_cast<int>(layers.size()); }
  bool has_head() const { return output_norm != nullptr; }
  std::uint64_t size_bytes() const { return buffer_.size_bytes(); }

  std::vector<LayerWeights> layers;    // k_bias is on the device, too
  ggml_tensor* output_norm = nullptr;  // null without the head
  Linear output;
  ggml_tensor* rope_factors = nullptr;  // or null

 private:
  explicit DeviceModel(std::shared_ptr<OpenDevice> device) : device_(std::move(device)) {}
  ggml_tensor* add(const ggml_tensor* from);
  Linear add(const Linear& from);
  LayerWeights add(const LayerWeights& from);

  std::shared_ptr<OpenDevice> device_;
  ggml_context_ptr context_;
  std::map<const ggml_tensor*, ggml_tensor*> copies_;  // from the host's tensors
  DeviceBuffer buffer_;
};

}  // namespace celslm
