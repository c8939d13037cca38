#include "model/engine/key_weights.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "model/engine/model_impl.h"

namespace celslm {
namespace {

std::span<const float> floats_of(const ggml_tensor* t) {
  return {static_cast<const float*>(t->data), static_cast<std::size_t>(ggml_nelements(t))};
}

// Mean squares of all query heads' coordinates: [n_heads * head_dim].
std::vector<double> query_energy(const LayerWeights& layer) {
  const ggml_tensor* projection = layer.q.in_file;
  const std::vector<float> ones(static_cast<std::size_t>(projection->ne[0]), 1.0F);
  const auto norm = layer.attn_norm == nullptr ? std::span(ones) : floats_of(layer.attn_norm);
  std::vector<double> out(static_cast<std::size_t>(projection->ne[1]));
  std::vector<float> row(static_cast<std::size_t>(projection->ne[0]));
  const auto to_float = ggml_get_type_traits(projection->type)->to_float;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto* data = static_cast<const std::byte*>(projection->data) + i * projection->nb[1];
    const auto* exact = reinterpret_cast<const float*>(data);
    if (projection->type == GGML_TYPE_F32)
      row.assign(exact, exact + row.size());
    else
      to_float(data, row.data(), projection->ne[0]);
    for (std::size_t k = 0; k < row.size(); ++k) out[i] += std::pow(double{row[k]} * norm[k], 2);
    if (layer.q.b != nullptr) out[i] += std::pow(floats_of(layer.q.b)[i], 2);
  }
  return out;
}

// [n_kv_heads * head_dim]: means over the query heads of each KV head.
std::vector<double> group_energy(const ModelConfig& config, const Weights& weights, int number) {
  const LayerWeights& layer = weights.layer(number);
  const auto head_dim = static_cast<std::size_t>(config.head_dim);
  std::vector<double> out(static_cast<std::size_t>(config.kv_width()));
  if (layer.q_norm != nullptr) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::pow(floats_of(layer.q_norm)[i % head_dim], 2);
    return out;
  }
  if (layer.q_gain != nullptr) {  // K has its gain behind RoPE, too: its error grows by it
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = std::pow(double{floats_of(layer.q_gain)[i % head_dim]} * floats_of(layer.k_gain)[i % head_dim], 2);
    return out;
  }
  const auto group = static_cast<std::size_t>(config.n_heads / config.n_kv_heads);
  const auto energy = query_energy(layer);
  for (std::size_t i = 0; i < energy.size(); ++i) {
    out[i / head_dim / group * head_dim + i % head_dim] += energy[i] / static_cast<double>(group);
  }
  return out;
}

// Gives the two channels of each rotated pair what they have on average.
void share_between_pairs(const ModelConfig& config, std::span<double> head) {
  const auto pairs = static_cast<std::size_t>(config.rope.dimensions / 2);
  for (std::size_t i = 0; i < pairs; ++i) {
    double& a = config.rope.neox ? head[i] : head[2 * i];
    double& b = config.rope.neox ? head[i + pairs] : head[2 * i + 1];
    a = b = (a + b) / 2.0;
  }
}

}  // namespace

std::vector<float> key_weights(const Model& model, int layer) {
  const ModelConfig& config = model.config();
  const auto head_dim = static_cast<std::size_t>(config.head_dim);
  auto energy = group_energy(config, *model.impl().weights, layer);
  std::vector<float> out(energy.size());
  const bool turns = config.layer(layer).rope != RopeUse::kNone;
  for (std::size_t head = 0; turns && head < energy.size(); head += head_dim) {
    share_between_pairs(config, std::span(energy).subspan(head, head_dim));
  }
  std::ranges::transform(energy, out.begin(), [](double e) { return static_cast<float>(std::sqrt(e)); });
  return out;
}

}  // namespace celslm
