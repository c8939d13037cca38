// Typed reads of a GGUF's metadata; gguf.h's own getters end the process on a wrong type.
#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "model/config.h"

namespace celslm {

// A view; `gguf` must outlive it.
class GgufMetadata {
 public:
  explicit GgufMetadata(const gguf_context* gguf) : gguf_(gguf) {}

  bool has(const std::string& key) const { return find(key) >= 0; }
  // Integers of any width within [low, high]; kInvalid if missing without a fallback, of another type or out of range.
  Result<int> integer(const std::string& key, std::int64_t low, std::int64_t high, std::optional<int> fallback = {}) const;
  Result<float> real(const std::string& key, float low, float high, std::optional<float> fallback = {}) const;
  Result<std::string> text(const std::string& key, std::optional<std::string> fallback = {}) const;
  // Any number or truth value; absent where there is none of that name, NaN where it is something else.
  std::optional<double> any_number(const std::string& key) const;
  Result<bool> boolean(const std::string& key, bool fallback) const;
  bool is_array(const std::string& key) const;
  // The values of an array of truth values, or kInvalid.
  Result<std::vector<bool>> booleans(const std::string& key) const;
  // The values of an array of 32-bit integers within [low, high], or kInvalid.
  Result<std::vector<int>> integers(const std::string& key, std::int64_t low, std::int64_t high) const;
  // The entries of an array of exactly this type, or kInvalid.
  Result<std::size_t> array_size(const std::string& key, gguf_type type) const;

  // BLAKE3 over every tokenizer.* key: names, types, values, in order of name.
  Hash256 tokenizer_hash() const;

 private:
  std::int64_t find(const std::string& key) const { return gguf_find_key(gguf_, key.c_str()); }
  const gguf_context* gguf_;
};

// The model's shape. kInvalid with the key or the limit that is wrong; kMismatch for an architecture that is not ours, which
// is named beside ours, and for what models of the architecture do not have here.
// What depends on tensors (tied_output, qkv_bias, qk_norm, rope.has_frequency_factors) is read from the tensors later.
Result<ModelConfig> read_config(const GgufMetadata& metadata);

// kInvalid unless the tokenizer's arrays are complete and of the kinds that libllama's vocabulary expects without checking,
// kMismatch for a kind of tokenizer that this program does not take. Returns the number of tokens.
Result<int> check_tokenizer(const GgufMetadata& metadata, const gguf_context* gguf);

// For ModelFingerprint::rope: every RoPE parameter, and what else of the metadata, beside shapes, changes a graph's results.
std::string canonical_text(const ModelConfig& config);

}  // namespace celslm
