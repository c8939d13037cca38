#include "model/engine/device_model.h"

#include <exception>
#include <utility>

namespace celslm {
namespace {

constexpr std::size_t kTensorsOfLayer = 24;  // at most, with biases
constexpr std::size_t kTensorsOfHead = 4;    // norm, matrix, bias, RoPE factors

// What some architectures have that graphs on a device are not made of yet.
const char* missing_feature(const Weights& weights, const ModelConfig& config) {
  if (config.has_states()) return "recurrent layers";
  if (config.has_windows()) return "sliding windows";
  if (config.experts.n > 0) return "mixtures of experts";
  if (config.temperature.scale != 0.0F) return "queries whose temperature depends on their position";
  for (const LayerWeights& layer : weights.layers) {
    if (layer.sinks != nullptr) return "attention sinks";
    if (layer.q_gain != nullptr || layer.k_gain != nullptr) return "norms of heads behind RoPE";
  }
  return nullptr;
}

}  // namespace

// The same tensor without data; each once, however many use it.
ggml_tensor* DeviceModel::add(const ggml_tensor* from) {
  if (from == nullptr) return nullptr;
  ggml_tensor*& copy = copies_[from];
  if (copy == nullptr) {
    copy = ggml_dup_tensor(context_.get(), from);
    ggml_set_name(copy, ggml_get_name(from));
  }
  return copy;
}

Linear DeviceModel::add(const Linear& from) {
  return {.w = add(from.w), .b = add(from.b)};
}

LayerWeights DeviceModel::add(const LayerWeights& from) {
  LayerWeights out;
  out.attn_norm = add(from.attn_norm);
  out.q = add(from.q);
  out.k = add(from.k);
  out.v = add(from.v);
  out.k_bias = add(from.k_bias);
  out.q_norm = add(from.q_norm);
  out.k_norm = add(from.k_norm);
  out.attn_output = add(from.attn_output);
  out.attn_post_norm = add(from.attn_post_norm);
  out.ffn_norm = add(from.ffn_norm);
  out.gate = add(from.gate);
  out.up = add(from.up);
  out.down = add(from.down);
  out.ffn_post_norm = add(from.ffn_post_norm);
  return out;
}

Result<std::unique_ptr<const DeviceModel>> DeviceModel::load(std::shared_ptr<OpenDevice> device, const Weights& weights,
                                                             const ModelConfig& config, int n_layers) {
  if (const char* missing = missing_feature(weights, config))
    return fail(ErrorKind::kUnavailable, "{}: {} models have {}, which are computed by the CPU only: use --device cpu",
                device->name(), to_string(config.architecture), missing);
  std::unique_ptr<DeviceModel> out(new DeviceModel(std::move(device)));
  const std::size_t n_tensors = static_cast<std::size_t>(n_layers) * kTensorsOfLayer + kTensorsOfHead;
  out->context_.reset(
      ggml_init({.mem_size = ggml_tensor_overhead() * (n_tensors + 1), .mem_buffer = nullptr, .no_alloc = true}));
  if (!out->context_) return fail(ErrorKind::kOverloaded, "no memory for {} tensors", n_tensors);
  for (int layer = 0; layer < n_layers; ++layer)
    out->layers.push_back(out->add(weights.layers[static_cast<std::size_t>(layer)]));
  out->rope_factors = out->add(weights.rope_factors);
  if (n_layers == config.n_layers) {
    out->output_norm = out->add(weights.output_norm);
    out->output = out->add(weights.output);
  }
  CELSLM_TRY(out->buffer_,
             out->device_->allocate(out->context_.get(), fmt::format("{} of {} layers", n_layers, config.n_layers)));
  out->buffer_.use_for_weights();
  try {
    for (const auto& [from, to] : out->copies_) ggml_backend_tensor_set(to, from->data, 0, ggml_nbytes(from));
  } catch (const std::exception& error) {  // a driver's
    return fail(ErrorKind::kUnavailable, "{}: weights cannot be copied there: {}", out->device_->name(), error.what());
  }
  return out;
}

}  // namespace celslm
