// The model's shape from its GGUF, with limits beside each size, after libllama's rules for defaults.
#include <fmt/format.h>

#include <cmath>
#include <format>
#include <string>
#include <unordered_set>

#include "model/gguf/gguf_metadata.h"

namespace celslm {
namespace {

// Several times over what any published model of these families has; they keep products of sizes inside 64 bits and a
// hostile header from asking for absurd graphs.
constexpr int kMaxLayers = 1024;
constexpr int kMaxWidth = 1 << 18;  // n_embd, n_ff
constexpr int kMaxHeads = 4096;
constexpr int kMaxHeadDim = 1024;
constexpr int kMaxContext = 1 << 30;  // tokens

Result<Architecture> architecture_from(const std::string& name) {
  if (const ArchitectureTraits* found = find_architecture(name)) return found->architecture;
  std::string ours;
  for (const ArchitectureTraits& a : all_architectures()) ours += fmt::format("{}{}", ours.empty() ? "" : ", ", a.name);
  return fail(ErrorKind::kInvalid, "architecture '{}' is not supported; supported are {}", name, ours);
}

Result<RopeScaling> scaling_from(const std::string& name, const std::string& key) {
  if (name == "none") return RopeScaling::kNone;
  if (name == "linear") return RopeScaling::kLinear;
  if (name == "yarn") return RopeScaling::kYarn;
  return fail(ErrorKind::kInvalid, "'{}' is '{}'; none, linear and yarn are supported", key, name);
}

// libllama's resolution: an ext factor not given is 1 for YaRN and 0 otherwise; ggml's RoPE multiplies by
// 1 + 0.1 ln(factor) whenever the ext factor is not 0, which is YaRN's own magnitude for factors over 1.
void resolve_yarn(RopeConfig& rope, float attention_factor) {
  if (rope.scaling == RopeScaling::kNone) rope.factor = 1.0F;
  if (rope.yarn_ext_factor < 0.0F) rope.yarn_ext_factor = rope.scaling == RopeScaling::kYarn ? 1.0F : 0.0F;
  if (rope.yarn_ext_factor != 0.0F) {
    const float magnitude = rope.factor <= 1.0F ? 1.0F : 0.1F * std::log(rope.factor) + 1.0F;
    rope.yarn_attn_factor = magnitude / (1.0F + 0.1F * std::log(rope.factor));
  }
  rope.yarn_attn_factor *= attention_factor;
}

Result<RopeConfig> read_rope(const GgufMetadata& m, const std::string& prefix, const ModelConfig& config) {
  const std::string p = prefix + "rope.";
  RopeConfig rope;
  rope.neox = config.traits().neox;
  CELSLM_TRY(rope.dimensions, m.integer(p + "dimension_count", 2, config.head_dim, config.head_dim));
  if (rope.dimensions % 2 != 0) return fail(ErrorKind::kInvalid, "'{}dimension_count' is {}, not even", p, rope.dimensions);
  CELSLM_TRY(rope.base, m.real(p + "freq_base", 1.0F, 1e12F, 10000.0F));
  CELSLM_TRY(const std::string scaling, m.text(p + "scaling.type", "linear"));
  CELSLM_TRY(rope.scaling, scaling_from(scaling, p + "scaling.type"));
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
  resolve_yarn(rope, attention_factor);
  return rope;
}

Status read_heads(const GgufMetadata& m, const std::string& p, ModelConfig& config) {
  CELSLM_TRY(config.n_heads, m.integer(p + "attention.head_count", 1, kMaxHeads));
  CELSLM_TRY(config.n_kv_heads, m.integer(p + "attention.head_count_kv", 1, kMaxHeads, config.n_heads));
  if (config.n_heads % config.n_kv_heads != 0) {
    return fail(ErrorKind::kInvalid, "{} heads do not divide into {} KV heads", config.n_heads, config.n_kv_heads);
  }
  CELSLM_TRY(config.head_dim, m.integer(p + "attention.key_length", 2, kMaxHeadDim, config.n_embd / config.n_heads));
  CELSLM_TRY(const int value_dim, m.integer(p + "attention.value_length", 2, kMaxHeadDim, config.n_embd / config.n_heads));
  if (value_dim != config.head_dim) {
    return fail(ErrorKind::kInvalid, "keys of {} and values of {} per head; they must be equal", config.head_dim, value_dim);
  }
  if (config.head_dim < 2 || config.head_dim > kMaxHeadDim || config.head_dim % 2 != 0) {
    return fail(ErrorKind::kInvalid, "heads of {} dimensions; even numbers from 2 to {} are supported", config.head_dim,
                kMaxHeadDim);
  }
  return {};
}

// Keys that change what the layers compute and that these graphs do not know. Ignoring one would give wrong answers
// silently.
Status refuse_unsupported(const GgufMetadata& m, const std::string& p) {
  CELSLM_TRY(const int experts, m.integer(p + "expert_count", 0, INT32_MAX, 0));
  if (experts > 0) return fail(ErrorKind::kInvalid, "a mixture of {} experts; only dense models are supported", experts);
  return {};
}

}  // namespace

Result<ModelConfig> read_config(const GgufMetadata& m) {
  ModelConfig config;
  CELSLM_TRY(const std::string architecture, m.text("general.architecture"));
  CELSLM_TRY(config.architecture, architecture_from(architecture));
  CELSLM_TRY(config.name, m.text("general.name", ""));
  const std::string p = architecture + ".";
  CELSLM_CHECK_OK(refuse_unsupported(m, p));
  CELSLM_TRY(config.n_ctx_train, m.integer(p + "context_length", 1, kMaxContext));
  CELSLM_TRY(config.n_layers, m.integer(p + "block_count", 1, kMaxLayers));
  CELSLM_TRY(config.n_embd, m.integer(p + "embedding_length", 2, kMaxWidth));
  CELSLM_TRY(config.n_ff, m.integer(p + "feed_forward_length", 1, kMaxWidth));
  CELSLM_TRY(config.rms_epsilon, m.real(p + "attention.layer_norm_rms_epsilon", 0.0F, 1.0F));
  CELSLM_CHECK_OK(read_heads(m, p, config));
  CELSLM_TRY(config.attention_scale, m.real(p + "attention.scale", 0.0F, 1e6F, 0.0F));
  if (config.attention_scale == 0.0F) config.attention_scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim));
  CELSLM_TRY(config.rope, read_rope(m, p, config));
  if (!config.traits().partial_rope && config.rope.dimensions != config.head_dim) {
    return fail(ErrorKind::kInvalid, "RoPE over {} of a head's {} dimensions is not supported for {}",
                config.rope.dimensions, config.head_dim, architecture);
  }
  return config;
}

namespace {

// libllama ends the process when two tokens have one text; an empty text becomes "[EMPTY_<id>]" there.
Status refuse_equal_tokens(const gguf_context* gguf, std::size_t n_tokens) {
  const std::int64_t id = gguf_find_key(gguf, "tokenizer.ggml.tokens");
  std::unordered_set<std::string> seen(n_tokens);
  for (std::size_t i = 0; i < n_tokens; ++i) {
    std::string text = gguf_get_arr_str(gguf, id, i);
    if (text.empty()) text = fmt::format("[EMPTY_{}]", i);
    if (!seen.insert(std::move(text)).second) return fail(ErrorKind::kInvalid, "token {} has the text of another", i);
  }
  return {};
}

}  // namespace

Result<int> check_tokenizer(const GgufMetadata& m, const gguf_context* gguf) {
  CELSLM_TRY(const std::string kind, m.text("tokenizer.ggml.model"));
  if (kind != "gpt2" && kind != "llama") {
    return fail(ErrorKind::kInvalid,
                "tokenizer '{}' is not supported; supported are gpt2 (byte-level BPE) and llama (SentencePiece)", kind);
  }
  CELSLM_TRY(const std::size_t n_tokens, m.array_size("tokenizer.ggml.tokens", GGUF_TYPE_STRING));
  constexpr std::size_t kMaxVocabulary = 1U << 22;
  if (n_tokens == 0 || n_tokens > kMaxVocabulary) {
    return fail(ErrorKind::kInvalid, "a vocabulary of {} tokens; 1 to {} are accepted", n_tokens, kMaxVocabulary);
  }
  CELSLM_CHECK_OK(refuse_equal_tokens(gguf, n_tokens));
  for (const auto& [key, type] :
       {std::pair{"tokenizer.ggml.scores", GGUF_TYPE_FLOAT32}, {"tokenizer.ggml.token_type", GGUF_TYPE_INT32}}) {
    if (!m.has(key)) continue;
    CELSLM_TRY(const std::size_t n, m.array_size(key, type));
    if (n != n_tokens) return fail(ErrorKind::kInvalid, "'{}' has {} entries for {} tokens", key, n, n_tokens);
  }
  if (kind == "gpt2") {
    CELSLM_TRY(const std::size_t n_merges, m.array_size("tokenizer.ggml.merges", GGUF_TYPE_STRING));
    const std::int64_t id = gguf_find_key(gguf, "tokenizer.ggml.merges");
    for (std::size_t i = 0; i < n_merges; ++i) {
      const std::string_view merge = gguf_get_arr_str(gguf, id, i);
      if (merge.find(' ', 1) == std::string_view::npos) return fail(ErrorKind::kInvalid, "merge {} is not two words", i);
    }
  }
  return static_cast<int>(n_tokens);
}

// std::format, not fmt: they write a base of 500,000 as "5e+05" and "500000", and the models' ids hang on it.
std::string canonical_text(const RopeConfig& r) {
  return std::format("{} {} base {} scaling {} {} of {} ext {} attn {} beta {} {} factors {}", r.neox ? "neox" : "norm",
                     r.dimensions, r.base, static_cast<int>(r.scaling), r.factor, r.original_context, r.yarn_ext_factor,
                     r.yarn_attn_factor, r.yarn_beta_fast, r.yarn_beta_slow, r.has_frequency_factors);
}

}  // namespace celslm
