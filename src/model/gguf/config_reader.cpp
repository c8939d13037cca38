// The model's shape from its GGUF, with limits beside each size, after libllama's rules for defaults.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <unordered_set>
#include <vector>

#include "model/gguf/config_parts.h"

namespace celslm {
namespace {

// Several times over what any published model of these families has; they keep products of sizes inside 64 bits and a
// hostile header from asking for absurd graphs.
constexpr int kMaxLayers = 1024;
constexpr int kMaxWidth = 1 << 18;  // n_embd, n_ff
constexpr int kMaxHeads = 4096;
constexpr int kMaxHeadDim = 1024;
constexpr int kMaxExperts = 1024;

Result<Architecture> architecture_from(const std::string& name) {
  if (const ArchitectureTraits* found = find_architecture(name)) return found->architecture;
  std::string ours;
  for (const ArchitectureTraits& a : all_architectures()) ours += fmt::format("{}{}", ours.empty() ? "" : ", ", a.name);
  return fail(ErrorKind::kMismatch, "architecture '{}' is not supported; supported are {}", name, ours);
}

// Of the layers that have any: they all have as many. Some architectures write 0 for those that are recurrent.
Result<int> read_kv_heads(const GgufMetadata& m, const std::string& key, const ModelConfig& config) {
  if (config.traits().recurrence == Recurrence::kNone || !m.is_array(key))
    return m.integer(key, 1, kMaxHeads, config.n_heads);
  CELSLM_TRY(const std::vector<int> by_layer, m.integers(key, 0, kMaxHeads));
  const int most = by_layer.empty() ? 0 : std::ranges::max(by_layer);
  if (most == 0) return fail(ErrorKind::kMismatch, "'{}': no layer has attention, which is not supported", key);
  const bool alike = std::ranges::all_of(by_layer, [most](int n) { return n == 0 || n == most; });
  if (alike) return most;
  return fail(ErrorKind::kMismatch, "'{}': layers with different numbers of KV heads are not supported", key);
}

Status read_heads(const GgufMetadata& m, const std::string& p, ModelConfig& config) {
  CELSLM_TRY(config.n_heads, m.integer(p + "attention.head_count", 1, kMaxHeads));
  CELSLM_TRY(config.n_kv_heads, read_kv_heads(m, p + "attention.head_count_kv", config));
  if (config.n_heads % config.n_kv_heads != 0) {
    return fail(ErrorKind::kInvalid, "{} heads do not divide into {} KV heads", config.n_heads, config.n_kv_heads);
  }
  CELSLM_TRY(config.head_dim, m.integer(p + "attention.key_length", 2, kMaxHeadDim, config.n_embd / config.n_heads));
  CELSLM_TRY(const int value_dim, m.integer(p + "attention.value_length", 2, kMaxHeadDim, config.n_embd / config.n_heads));
  if (value_dim != config.head_dim) {
    return fail(ErrorKind::kMismatch, "keys of {} and values of {} per head; they must be equal", config.head_dim,
                value_dim);
  }
  if (config.head_dim < 2 || config.head_dim > kMaxHeadDim || config.head_dim % 2 != 0) {
    return fail(ErrorKind::kMismatch, "heads of {} dimensions; even numbers from 2 to {} are supported", config.head_dim,
                kMaxHeadDim);
  }
  return {};
}

Status read_mlp(const GgufMetadata& m, const std::string& p, ModelConfig& config) {
  if (config.traits().experts == Experts::kNone) {
    CELSLM_TRY(config.n_ff, m.integer(p + "feed_forward_length", 1, kMaxWidth));
    return {};
  }
  ExpertsConfig& experts = config.experts;
  CELSLM_TRY(experts.n, m.integer(p + "expert_count", 1, kMaxExperts));
  CELSLM_TRY(experts.n_used, m.integer(p + "expert_used_count", 1, experts.n));
  CELSLM_TRY(experts.n_ff, m.integer(p + "expert_feed_forward_length", 1, kMaxWidth));
  return {};
}

}  // namespace

Result<ModelConfig> read_config(const GgufMetadata& m) {
  ModelConfig config;
  CELSLM_TRY(const std::string architecture, m.text("general.architecture"));
  CELSLM_TRY(config.architecture, architecture_from(architecture));
  CELSLM_TRY(config.name, m.text("general.name", ""));
  const std::string p = architecture + ".";
  CELSLM_CHECK_OK(refuse_unread(m, p, config.traits()));
  CELSLM_TRY(config.n_ctx_train, m.integer(p + "context_length", 1, kMaxContext));
  CELSLM_TRY(config.n_layers, m.integer(p + "block_count", 1, kMaxLayers));
  CELSLM_TRY(config.n_prediction_layers, m.integer(p + "nextn_predict_layers", 0, config.n_layers - 1, 0));
  config.n_layers -= config.n_prediction_layers;
  CELSLM_TRY(config.n_embd, m.integer(p + "embedding_length", 2, kMaxWidth));
  CELSLM_CHECK_OK(read_mlp(m, p, config));
  CELSLM_TRY(config.rms_epsilon, m.real(p + "attention.layer_norm_rms_epsilon", 0.0F, 1.0F));
  CELSLM_CHECK_OK(read_heads(m, p, config));
  CELSLM_TRY(config.rope, read_rope(m, p, config));
  CELSLM_CHECK_OK(read_scales(m, p, config));
  CELSLM_CHECK_OK(read_layers(m, p, config));
  CELSLM_CHECK_OK(read_recurrence(m, p, config));
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
    return fail(ErrorKind::kMismatch,
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

}  // namespace celslm
