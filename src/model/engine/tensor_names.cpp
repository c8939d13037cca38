#include "model/engine/tensor_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <utility>

namespace celslm {
namespace {

constexpr std::size_t kMostSlicesPerLayer = 8;  // Q, K, V and their biases, gate and up

std::string shape_text(std::span<const std::int64_t> ne) {
  std::string out;
  for (const std::int64_t n : ne) out += fmt::format("{}{}", out.empty() ? "" : " x ", n);
  return out;
}

// Whether ggml can multiply by weights of this type: those with a vector product, which leaves out types that exist only
// inside products (Q8_1, Q8_K) and integers.
bool is_weight_type(ggml_type type) {
  if (type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16) return true;
  return ggml_is_quantized(type) && ggml_get_type_traits(type)->to_float != nullptr && type != GGML_TYPE_Q8_1 &&
         type != GGML_TYPE_Q8_K;
}

}  // namespace

bool TensorNames::known(const ggml_tensor* t) const {
  if (used_.contains(t)) return true;
  const std::string_view name = ggml_get_name(t);
  for (int i = 0; i < config_.n_prediction_layers; ++i) {
    if (name.starts_with(fmt::format("blk.{}.", config_.n_layers + i))) return true;
  }
  return false;
}

std::span<const TensorSlice> TensorNames::slices_of(const ggml_tensor* t) const {
  const auto found = slices_by_tensor_.find(t);
  return found == slices_by_tensor_.end() ? std::span<const TensorSlice>() : found->second;
}

Result<ggml_tensor*> TensorNames::find(const std::string& name, Shape shape, bool required) {
  ggml_tensor* t = find_tensor(parts_, name.c_str());
  if (t == nullptr && !required) return nullptr;
  if (t == nullptr) return fail(ErrorKind::kInvalid, "no tensor '{}'", name);
  std::array<std::int64_t, GGML_MAX_DIMS> want = {1, 1, 1, 1};
  std::copy(shape.begin(), shape.end(), want.begin());
  if (!std::equal(want.begin(), want.end(), t->ne)) {
    return fail(ErrorKind::kInvalid, "tensor '{}' is {}, expected {}", name, shape_text(std::span(t->ne, ggml_n_dims(t))),
                shape_text(shape));
  }
  used_.insert(t);
  return t;
}

// Norms, biases, factors and convolutions are F32 in every GGUF that converters write, and operators want them so.
Result<ggml_tensor*> TensorNames::floats(const std::string& name, Shape shape, bool required) {
  CELSLM_TRY(ggml_tensor* const t, find(name, shape, required));
  if (t != nullptr && t->type != GGML_TYPE_F32) {
    return fail(ErrorKind::kMismatch, "tensor '{}' is of type {}; it must be f32", name, ggml_type_name(t->type));
  }
  return t;
}

Result<ggml_tensor*> TensorNames::vector(const std::string& name, std::int64_t n, bool required) {
  return floats(name, {n}, required);
}

// Null where the architecture has no such norm.
Result<ggml_tensor*> TensorNames::norm(const std::string& layer, const char* name) {
  if (name == nullptr) return nullptr;
  return vector(fmt::format("{}{}.weight", layer, name), config_.n_embd, true);
}

Result<ggml_tensor*> TensorNames::matrix(const std::string& name, std::int64_t n_in, std::int64_t n_out, bool required) {
  CELSLM_TRY(ggml_tensor* const t, find(name, {n_in, n_out}, required));
  if (t != nullptr && !is_weight_type(t->type)) {
    return fail(ErrorKind::kInvalid, "tensor '{}' is of type {}, which ggml cannot multiply", name, ggml_type_name(t->type));
  }
  return t;
}

Result<Linear> TensorNames::linear(const std::string& name, std::int64_t n_in, std::int64_t n_out) {
  Linear out;
  CELSLM_TRY(out.w, matrix(name + ".weight", n_in, n_out));
  CELSLM_TRY(out.b, vector(name + ".bias", n_out, false));
  out.in_file = out.w;
  return out;
}

Result<std::vector<Linear>> TensorNames::fused(const std::string& name, std::int64_t n_in,
                                               std::initializer_list<std::int64_t> n_out) {
  const std::int64_t all = std::reduce(n_out.begin(), n_out.end(), std::int64_t{0});
  CELSLM_TRY(const Linear whole, linear(name, n_in, all));
  std::vector<Linear> out;
  std::int64_t row = 0;
  const auto slice = [&](ggml_tensor* t, std::size_t row_bytes, ggml_tensor* part) {
    slices_by_tensor_[t].push_back({.rows = part, .offset = static_cast<std::size_t>(row) * row_bytes});
    ggml_set_name(part, ggml_get_name(t));
    return part;
  };
  for (const std::int64_t n : n_out) {
    Linear part{.w = slice(whole.w, whole.w->nb[1], ggml_new_tensor_2d(slices_, whole.w->type, n_in, n))};
    if (whole.b != nullptr) part.b = slice(whole.b, whole.b->nb[0], ggml_new_tensor_1d(slices_, whole.b->type, n));
    part.in_file = part.w;
    out.push_back(part);
    row += n;
  }
  return out;
}

Status TensorNames::name_all(std::span<const GgufPart> parts, Weights& out) {
  parts_ = parts;
  const std::size_t n_slices = kMostSlicesPerLayer * static_cast<std::size_t>(config_.n_layers);
  out.slices.reset(
      ggml_init({.mem_size = ggml_tensor_overhead() * (n_slices + 1), .mem_buffer = nullptr, .no_alloc = true}));
  if (!out.slices) return fail(ErrorKind::kOverloaded, "no memory for {} tensors", n_slices);
  slices_ = out.slices.get();
  const std::int64_t d = config_.n_embd;
  CELSLM_TRY(out.token_embd, matrix("token_embd.weight", d, config_.n_vocab));
  CELSLM_TRY(out.output_norm, vector(fmt::format("{}.weight", config_.traits().output_norm), d, true));
  CELSLM_TRY(out.output.w, matrix("output.weight", d, config_.n_vocab, false));
  CELSLM_TRY(out.output.b, vector("output.bias", config_.n_vocab, false));
  config_.tied_output = out.output.w == nullptr;
  if (config_.tied_output) out.output.w = out.token_embd;
  out.output.in_file = out.output.w;
  CELSLM_CHECK_OK(name_factors(out));
  for (int i = 0; i < config_.n_layers; ++i) CELSLM_CHECK_OK(name_layer(fmt::format("blk.{}.", i), out));
  config_.qkv_bias = std::ranges::any_of(out.layers, [](const LayerWeights& w) { return w.q.b != nullptr; });
  config_.key_bias = std::ranges::any_of(out.layers, [](const LayerWeights& w) { return w.k_bias != nullptr; });
  config_.qk_norm = config_.traits().head_norm != HeadNorm::kNone;
  return {};
}

Status TensorNames::name_factors(Weights& out) {
  const std::int64_t n = config_.rope.dimensions / 2;
  switch (config_.traits().factors) {
    case FrequencyFactors::kNone: break;
    case FrequencyFactors::kOne: {
      CELSLM_TRY(out.rope_factors, vector("rope_freqs.weight", n, false));
      break;
    }
    case FrequencyFactors::kLongShort: {
      CELSLM_TRY(ggml_tensor* const long_factors, vector("rope_factors_long.weight", n, false));
      CELSLM_TRY(ggml_tensor* const short_factors, vector("rope_factors_short.weight", n, false));
      out.rope_factors = config_.long_factors ? long_factors : short_factors;
      break;
    }
  }
  config_.rope.has_frequency_factors = out.rope_factors != nullptr;
  return {};
}

Status TensorNames::name_layer(const std::string& p, Weights& out) {
  const ArchitectureTraits& traits = config_.traits();
  LayerWeights w;
  CELSLM_TRY(w.attn_norm, norm(p, traits.attn_norm));
  const bool recurrent = config_.state_values(static_cast<int>(out.layers.size())) > 0;
  CELSLM_CHECK_OK(recurrent ? name_recurrent(p, w) : name_attention(p, w));
  CELSLM_TRY(w.attn_post_norm, norm(p, traits.attn_post_norm));
  CELSLM_TRY(w.ffn_norm, norm(p, traits.ffn_norm));
  CELSLM_CHECK_OK(traits.experts == Experts::kNone ? name_mlp(p, w) : name_experts(p, w.experts));
  CELSLM_TRY(w.ffn_post_norm, norm(p, traits.ffn_post_norm));
  out.layers.push_back(w);
  return {};
}

Status TensorNames::name_attention(const std::string& p, LayerWeights& w) {
  CELSLM_CHECK_OK(name_projections(p, w));
  CELSLM_CHECK_OK(name_head_norms(p, w));
  if (config_.traits().sinks) {
    CELSLM_TRY(w.sinks, vector(p + "attn_sinks.weight", config_.n_heads, true));
  }
  CELSLM_TRY(w.attn_output, linear(p + "attn_output", std::int64_t{config_.n_heads} * config_.head_dim, config_.n_embd));
  return {};
}

Status TensorNames::name_recurrent(const std::string& p, LayerWeights& w) {
  return config_.traits().recurrence == Recurrence::kDeltaNet ? name_delta_net(p, w) : name_short_conv(p, w);
}

Status TensorNames::name_delta_net(const std::string& p, LayerWeights& w) {
  const std::int64_t d = config_.n_embd;
  const RecurrenceConfig& net = config_.recurrence;
  RecurrentWeights& to = w.recurrent;
  CELSLM_TRY(to.in, linear(p + "attn_qkv", d, net.conv_channels));
  CELSLM_TRY(to.gate, linear(p + "attn_gate", d, net.value_width()));
  CELSLM_TRY(to.alpha, linear(p + "ssm_alpha", d, net.n_value_heads));
  CELSLM_TRY(to.beta, linear(p + "ssm_beta", d, net.n_value_heads));
  CELSLM_TRY(to.convolution, floats(p + "ssm_conv1d.weight", {net.conv_tokens, net.conv_channels}, true));
  CELSLM_TRY(to.alpha_bias, vector(p + "ssm_dt.bias", net.n_value_heads, true));
  CELSLM_TRY(to.decay, vector(p + "ssm_a", net.n_value_heads, true));
  CELSLM_TRY(to.norm, vector(p + "ssm_norm.weight", net.head_dim, true));
  CELSLM_TRY(w.attn_output, linear(p + "ssm_out", net.value_width(), d));
  return {};
}

Status TensorNames::name_short_conv(const std::string& p, LayerWeights& w) {
  const std::int64_t d = config_.n_embd;
  CELSLM_TRY(w.recurrent.in, linear(p + "shortconv.in_proj", d, 3 * d));
  CELSLM_TRY(w.recurrent.convolution, floats(p + "shortconv.conv.weight", {config_.recurrence.conv_tokens, d}, true));
  CELSLM_TRY(w.attn_output, linear(p + "shortconv.out_proj", d, d));
  return {};
}

Status TensorNames::name_projections(const std::string& p, LayerWeights& w) {
  const std::int64_t d = config_.n_embd;
  const std::int64_t q_width = std::int64_t{config_.n_heads} * config_.head_dim;
  if (config_.traits().fused && find_tensor(parts_, (p + "attn_qkv.weight").c_str()) != nullptr) {
    CELSLM_TRY(const auto qkv, fused(p + "attn_qkv", d, {q_width, config_.kv_width(), config_.kv_width()}));
    w.q = qkv[0];
    w.k = qkv[1];
    w.v = qkv[2];
    return {};
  }
  CELSLM_TRY(w.q, linear(p + "attn_q", d, config_.traits().gated_attention ? 2 * q_width : q_width));
  CELSLM_TRY(w.k, linear(p + "attn_k", d, config_.kv_width()));
  CELSLM_TRY(w.v, linear(p + "attn_v", d, config_.kv_width()));
  return {};
}

Status TensorNames::name_head_norms(const std::string& p, LayerWeights& w) {
  const HeadNorm kind = config_.traits().head_norm;
  if (kind == HeadNorm::kNone) {
    w.k_bias = std::exchange(w.k.b, nullptr);  // behind a norm it would not be a constant of K
    return {};
  }
  CELSLM_TRY(ggml_tensor* const q, vector(p + "attn_q_norm.weight", config_.head_dim, true));
  CELSLM_TRY(ggml_tensor* const k, vector(p + "attn_k_norm.weight", config_.head_dim, true));
  (kind == HeadNorm::kBeforeRope ? w.q_norm : w.q_gain) = q;
  (kind == HeadNorm::kBeforeRope ? w.k_norm : w.k_gain) = k;
  return {};
}

Status TensorNames::name_mlp(const std::string& p, LayerWeights& w) {
  const std::int64_t d = config_.n_embd;
  if (config_.traits().fused) {
    CELSLM_TRY(const auto halves, fused(p + "ffn_up", d, {config_.n_ff, config_.n_ff}));
    w.gate = halves[0];
    w.up = halves[1];
  } else {
    CELSLM_TRY(w.gate, linear(p + "ffn_gate", d, config_.n_ff));
    CELSLM_TRY(w.up, linear(p + "ffn_up", d, config_.n_ff));
  }
  CELSLM_TRY(w.down, linear(p + "ffn_down", config_.n_ff, d));
  return {};
}

Status TensorNames::name_experts(const std::string& p, ExpertWeights& w) {
  const std::int64_t d = config_.n_embd;
  const ExpertsConfig& experts = config_.experts;
  CELSLM_TRY(w.router, matrix(p + "ffn_gate_inp.weight", d, experts.n));
  CELSLM_TRY(w.router_bias, vector(p + "ffn_gate_inp.bias", experts.n, false));
  CELSLM_CHECK_OK(name_expert(p + "ffn_gate_exps", d, experts.n_ff, w.gate, w.gate_bias));
  CELSLM_CHECK_OK(name_expert(p + "ffn_up_exps", d, experts.n_ff, w.up, w.up_bias));
  return name_expert(p + "ffn_down_exps", experts.n_ff, d, w.down, w.down_bias);
}

Status TensorNames::name_expert(const std::string& name, std::int64_t n_in, std::int64_t n_out, ggml_tensor*& w,
                                ggml_tensor*& b) {
  CELSLM_TRY(w, find(name + ".weight", {n_in, n_out, config_.experts.n}, true));
  if (!is_weight_type(w->type)) {
    return fail(ErrorKind::kInvalid, "tensor '{}.weight' is of type {}, which ggml cannot multiply", name,
                ggml_type_name(w->type));
  }
  CELSLM_TRY(b, find(name + ".bias", {n_out, config_.experts.n}, false));
  if (b != nullptr && b->type != GGML_TYPE_F32) {
    return fail(ErrorKind::kMismatch, "tensor '{}.bias' is of type {}; biases must be f32", name, ggml_type_name(b->type));
  }
  return {};
}

}  // namespace celslm
