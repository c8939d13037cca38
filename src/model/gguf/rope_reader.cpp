#include <cmath>
#include <string>

#include "model/gguf/config_parts.h"

namespace celslm {
namespace {

Result<RopeScaling> scaling_from(const std::string& name, const std::string& key, const ArchitectureTraits& traits) {
  if (name == "none") return RopeScaling::kNone;
  if (name == "linear") return RopeScaling::kLinear;
  if (name == "yarn") return RopeScaling::kYarn;
  if (name == "longrope" && traits.factors == FrequencyFactors::kLongShort) return RopeScaling::kLong;
  // libllama ends the process at a name that it does not know.
  const ErrorKind kind = name == "longrope" ? ErrorKind::kMismatch : ErrorKind::kInvalid;
  return fail(kind, "'{}' is '{}'; none, linear and yarn are supported{}", key, name,
              traits.factors == FrequencyFactors::kLongShort ? ", and longrope" : "");
}

float magnitude(float factor, float multiplier) {
  return factor <= 1.0F ? 1.0F : 0.1F * multiplier * std::log(factor) + 1.0F;
}

// libllama's resolution: an ext factor not given is 1 for YaRN and 0 otherwise; ggml's RoPE multiplies by
// 1 + 0.1 ln(factor) whenever the ext factor is not 0, which is YaRN's own magnitude for factors over 1.
// log_multiplier: of the model's training; 0: it had YaRN's own magnitude.
void resolve_yarn(RopeConfig& rope, float attention_factor, float log_multiplier) {
  if (rope.scaling == RopeScaling::kNone) rope.factor = 1.0F;
  if (rope.yarn_ext_factor < 0.0F) rope.yarn_ext_factor = rope.scaling == RopeScaling::kYarn ? 1.0F : 0.0F;
  if (rope.yarn_ext_factor != 0.0F) {
    const float wanted = log_multiplier == 0.0F ? magnitude(rope.factor, 1.0F)
                                                : magnitude(rope.factor, 1.0F) / magnitude(rope.factor, log_multiplier);
    rope.yarn_attn_factor = wanted / (1.0F + 0.1F * std::log(rope.factor));
  }
  rope.yarn_attn_factor *= attention_factor;
}

Status check_rope(const RopeConfig& rope, const std::string& p, const ModelConfig& config) {
  if (rope.dimensions % 2 != 0) return fail(ErrorKind::kInvalid, "'{}dimension_count' is {}, not even", p, rope.dimensions);
  if (!config.traits().partial_rope && rope.dimensions != config.head_dim) {
    return fail(ErrorKind::kMismatch, "RoPE over {} of a head's {} dimensions is not supported for {}", rope.dimensions,
                config.head_dim, config.traits().name);
  }
  // The norm behind it would take the magnitude away again.
  if (config.traits().head_norm == HeadNorm::kAfterRope && (rope.yarn_ext_factor != 0.0F || rope.yarn_attn_factor != 1.0F)) {
    return fail(ErrorKind::kMismatch, "'{}scaling' changes the magnitude of Q and K, which is not supported for {}", p,
                config.traits().name);
  }
  return {};
}

}  // namespace

Result<RopeConfig> read_rope(const GgufMetadata& m, const std::string& prefix, const ModelConfig& config) {
  const std::string p = prefix + "rope.";
  RopeConfig rope;
  rope.neox = config.traits().neox;
  CELSLM_TRY(rope.dimensions, m.integer(p + "dimension_count", 2, config.head_dim, config.head_dim));
  CELSLM_TRY(rope.base, m.real(p + "freq_base", 1.0F, 1e12F, 10000.0F));
  CELSLM_TRY(const std::string scaling, m.text(p + "scaling.type", "linear"));
  CELSLM_TRY(rope.scaling, scaling_from(scaling, p + "scaling.type", config.traits()));
  CELSLM_TRY(const float old_factor, m.real(p + "scale_linear", 0.0F, 1e6F, 0.0F));
  CELSLM_TRY(const float factor, m.real(p + "scaling.factor", 0.0F, 1e6F, old_factor));
  rope.factor = factor == 0.0F ? 1.0F : factor;
  if (rope.factor < 1e-3F) return fail(ErrorKind::kInvalid, "'{}scaling.factor' is {}", p, rope.factor);
  CELSLM_TRY(rope.original_context, m.integer(p + "scaling.original_context_length", 1, kMaxContext, config.n_ctx_train));
  CELSLM_TRY(rope.yarn_ext_factor, m.real(p + "scaling.yarn_ext_factor", -1.0F, 100.0F, -1.0F));
  CELSLM_TRY(rope.yarn_attn_factor, m.real(p + "scaling.yarn_attn_factor", 0.0F, 100.0F, 1.0F));
  CELSLM_TRY(rope.yarn_beta_fast, m.real(p + "scaling.yarn_beta_fast", 0.0F, 1e6F, 32.0F));
  CELSLM_TRY(rope.yarn_beta_slow, m.real(p + "scaling.yarn_beta_slow", 0.0F, 1e6F, 1.0F));
  CELSLM_TRY(const float attention_factor, m.real(p + "scaling.attn_factor", 0.0F, 100.0F, 1.0F));
  CELSLM_TRY(const float log_multiplier, m.real(p + "scaling.yarn_log_multiplier", 0.0F, 100.0F, 0.0F));
  resolve_yarn(rope, attention_factor, log_multiplier);
  CELSLM_CHECK_OK(check_rope(rope, p, config));
  return rope;
}

}  // namespace celslm
