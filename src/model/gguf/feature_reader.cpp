// What only some architectures have: scales, windows, layers without RoPE; and the refusal of what an architecture has not.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "model/gguf/config_parts.h"

namespace celslm {
namespace {

// A key that libllama knows to change a graph. Values at which it changes nothing are accepted anywhere.
struct FeatureKey {
  const char* name;
  double neutral = 0.0;
  double also_neutral = 0.0;
  unsigned read_as = 0;  // by architectures with this feature
};

constexpr auto kFeatureKeys = std::to_array<FeatureKey>({
    {"attention.scale", 0.0, 0.0, feature::kAttentionScale},
    {"attention.temperature_scale", 0.0, 0.0, feature::kTemperature},
    {"rope.scaling.yarn_log_multiplier", 0.0, 0.0, feature::kYarnLogMultiplier},
    {"final_logit_softcapping", 0.0, 0.0, feature::kLogitSoftcap},
    {"logit_scale", 0.0, 1.0, feature::kLogitScale},
    {"residual_scale", 0.0, 1.0, feature::kResidualScale},
    {"embedding_scale", 0.0, 1.0, feature::kEmbeddingScale},
    {"attn_logit_softcapping"},
    {"attention.clamp_kqv"},
    {"attention.max_alibi_bias"},
    {"attention.causal", 1.0, 1.0},
    {"attention.output_scale", 0.0, 1.0},
    {"attention.value_scale", 0.0, 1.0},
    {"attention.shared_kv_layers"},
    {"attention.q_lora_rank"},
    {"attention.kv_lora_rank"},
    {"rope.dimension_sections", 0.0, 0.0, feature::kRopeSections},
    {"rope.scaling.alpha"},
    {"use_parallel_residual"},
    {"expert_shared_count"},
    {"expert_shared_feed_forward_length"},
    {"expert_group_count", 0.0, 1.0},
    {"expert_weights_norm", 1.0, 1.0},
    {"expert_weights_scale", 0.0, 1.0},
    {"leading_dense_block_count"},
    {"interleave_moe_layer_step", 0.0, 1.0},
    {"nextn_predict_layers", 0.0, 0.0, feature::kPredictionLayers},
    {"deepstack_mapping"},
    {"n_deepstack_layers"},
    {"embedding_length_per_layer_input"},
});

// A factor that some converters write as 0 where there is none.
Result<float> factor(const GgufMetadata& m, const std::string& key) {
  CELSLM_TRY(const float value, m.real(key, 0.0F, 1e6F, 0.0F));
  return value == 0.0F ? 1.0F : value;
}

Status read_attention_scale(const GgufMetadata& m, const std::string& p, ModelConfig& config) {
  CELSLM_TRY(config.attention_scale, m.real(p + "attention.scale", 0.0F, 1e6F, 0.0F));
  if (config.attention_scale != 0.0F) return {};
  const bool wide = config.traits().wide_score_layers == config.n_layers;
  const int width = wide ? config.n_embd / config.n_heads : config.head_dim;
  config.attention_scale = 1.0F / std::sqrt(static_cast<float>(width));
  return {};
}

Status read_temperature(const GgufMetadata& m, const std::string& p, ModelConfig& config) {
  CELSLM_TRY(config.temperature.scale, m.real(p + "attention.temperature_scale", 0.0F, 100.0F, 0.0F));
  config.temperature.step = config.rope.original_context;
  return {};
}

// The first layers of a period have the window, its last one has not; a period of 0: all have it.
bool has_window(int layer, int period) {
  return period == 0 || layer % period < period - 1;
}

// 0 where the model has none.
Result<int> window_of(const GgufMetadata& m, const std::string& p, const ModelConfig& config) {
  const ArchitectureTraits& traits = config.traits();
  const std::string key = p + "attention.sliding_window";
  const bool may_have =
      traits.window == WindowUse::kOptional && (traits.window_layers == 0 || traits.window_layers == config.n_layers);
  CELSLM_TRY(const int window, m.integer(key, 0, kMaxContext, may_have ? traits.default_window : 0));
  if (may_have) return window;
  // Longer than any context, it hides nothing.
  if (window == 0 || window >= config.n_ctx_train || traits.window == WindowUse::kIgnored) return 0;
  return fail(ErrorKind::kMismatch, "'{}' is {}; sliding windows are not supported for {} of {} layers", key, window,
              traits.name, config.n_layers);
}

Result<int> window_period(const GgufMetadata& m, const std::string& p, const ModelConfig& config) {
  constexpr int kMaxPeriod = 64;
  const std::string key = p + "attention.sliding_window_pattern";
  const int usual = config.traits().window_period;
  if (!m.is_array(key)) return m.integer(key, 0, kMaxPeriod, usual);
  CELSLM_TRY(const std::vector<bool> pattern, m.booleans(key));
  bool is_usual = std::ssize(pattern) == config.n_layers;
  for (int i = 0; is_usual && i < config.n_layers; ++i)
    is_usual = pattern[static_cast<std::size_t>(i)] == has_window(i, usual);
  if (is_usual) return usual;
  return fail(ErrorKind::kMismatch, "'{}' is not that of other {} models, in which the last of each {} layers has no window",
              key, config.traits().name, usual);
}

// libllama has per-layer head sizes and a second RoPE width for layers with windows; these graphs have not.
Status refuse_other_sizes(const GgufMetadata& m, const std::string& p, const ModelConfig& config) {
  for (const auto& [name, size] : {std::pair{"attention.key_length_swa", config.head_dim},
                                   {"attention.value_length_swa", config.head_dim},
                                   {"rope.dimension_count_swa", config.rope.dimensions}}) {
    if (m.any_number(p + name).value_or(size) != size)
      return fail(ErrorKind::kMismatch, "'{}{}' differs from that of layers without a window ({})", p, name, size);
  }
  return {};
}

Status read_local_rope(const GgufMetadata& m, const std::string& p, ModelConfig& config) {
  const std::string key = p + "rope.freq_base_swa";
  const float usual = config.traits().local_rope_base;
  CELSLM_TRY(const float base, m.real(key, 1.0F, 1e12F, usual == 0.0F ? config.rope.base : usual));
  config.local_rope = config.rope;
  if (usual == 0.0F && base != config.rope.base)
    return fail(ErrorKind::kMismatch, "'{}' is {}; {} models have one RoPE, of base {}", key, base, config.traits().name,
                config.rope.base);
  if (usual == 0.0F) return {};
  config.local_rope.base = base;
  config.local_rope.factor = 1.0F;
  return {};
}

// Whether the layer leaves Q and K as they are.
bool without_rope(NoRope rule, int layer, bool windows, bool windowed, bool finetuned) {
  switch (rule) {
    case NoRope::kNever: return false;
    case NoRope::kEveryFourth: return layer % 4 == 3;
    case NoRope::kFullLayers: return windows && !windowed;
    case NoRope::kIfNotFinetuned: return !finetuned;
  }
  return false;
}

}  // namespace

Status refuse_unread(const GgufMetadata& m, const std::string& prefix, const ArchitectureTraits& traits) {
  CELSLM_TRY(const int experts, m.integer(prefix + "expert_count", 0, INT32_MAX, 0));
  if (experts > 0 && traits.experts == Experts::kNone)
    return fail(ErrorKind::kMismatch, "a mixture of {} experts; {} models are supported without", experts, traits.name);
  for (const FeatureKey& key : kFeatureKeys) {
    if ((key.read_as & traits.features) != 0) continue;
    const auto value = m.any_number(prefix + key.name);
    if (!value || *value == key.neutral || *value == key.also_neutral) continue;
    return fail(ErrorKind::kMismatch, "'{}{}' is {}, which the graphs of {} models here would ignore", prefix, key.name,
                std::isnan(*value) ? "no number" : fmt::format("{}", *value), traits.name);
  }
  return {};
}

Status read_scales(const GgufMetadata& m, const std::string& prefix, ModelConfig& config) {
  CELSLM_CHECK_OK(read_attention_scale(m, prefix, config));
  CELSLM_CHECK_OK(read_temperature(m, prefix, config));
  CELSLM_TRY(config.embedding_scale, factor(m, prefix + "embedding_scale"));
  if (config.traits().scaled_embeddings) config.embedding_scale = std::sqrt(static_cast<float>(config.n_embd));
  CELSLM_TRY(config.residual_scale, factor(m, prefix + "residual_scale"));
  CELSLM_TRY(const float divisor, factor(m, prefix + "logit_scale"));
  if (divisor < 1e-6F) return fail(ErrorKind::kInvalid, "'{}logit_scale' is {}", prefix, divisor);
  config.logit_scale = 1.0F / divisor;
  CELSLM_TRY(config.logit_softcap, m.real(prefix + "final_logit_softcapping", 0.0F, 1e6F, 0.0F));
  return {};
}

Status read_layers(const GgufMetadata& m, const std::string& prefix, ModelConfig& config) {
  const ArchitectureTraits& traits = config.traits();
  CELSLM_TRY(const int window, window_of(m, prefix, config));
  int period = 0;
  if (window > 0) {
    CELSLM_TRY(period, window_period(m, prefix, config));
    CELSLM_CHECK_OK(refuse_other_sizes(m, prefix, config));
    CELSLM_CHECK_OK(read_local_rope(m, prefix, config));
  }
  bool finetuned = true;
  if (traits.no_rope == NoRope::kIfNotFinetuned) {
    CELSLM_TRY(finetuned, m.boolean(prefix + "rope.scaling.finetuned", true));
  }
  for (int i = 0; i < config.n_layers; ++i) {
    const bool windowed = window > 0 && has_window(i, period);
    LayerTraits kind{.window = windowed ? window : 0};
    if (windowed && traits.local_rope_base > 0.0F) kind.rope = RopeUse::kLocal;
    if (without_rope(traits.no_rope, i, window > 0, windowed, finetuned)) kind.rope = RopeUse::kNone;
    config.layers.push_back(kind);
  }
  config.long_factors = traits.factors == FrequencyFactors::kLongShort && config.n_ctx_train > config.rope.original_context;
  return {};
}

}  // namespace celslm
