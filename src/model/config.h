// What a model is: its shape, its RoPE, and the identities that decide what fits together.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/hash.h"
#include "core/result.h"
#include "model/architecture.h"

namespace celslm {

using Token = std::int32_t;

// Llama-3 scaling and the longer reach of kLong come as tensors of frequency factors.
enum class RopeScaling { kNone, kLinear, kYarn, kLong };

// As ggml's RoPE takes it: defaults resolved, and YaRN's magnitude folded into yarn_attn_factor.
struct RopeConfig {
  bool neox = false;  // pairs (i, i + n/2) rather than (2i, 2i + 1)
  int dimensions = 0;
  float base = 10000.0F;
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.0F;
  int original_context = 0;  // tokens; YaRN
  float yarn_ext_factor = -1.0F;
  float yarn_attn_factor = 1.0F;
  float yarn_beta_fast = 32.0F;
  float yarn_beta_slow = 1.0F;
  bool has_frequency_factors = false;
};

// Which of a model's RoPEs a layer turns Q and K by.
enum class RopeUse : std::uint8_t { kGlobal, kLocal, kNone };
inline constexpr std::size_t kRopeUses = 3;

// Where layers differ from each other.
struct LayerTraits {
  int state_values = 0;  // f32 values of the state that it keeps instead of rows of K and V; 0: it has attention
  RopeUse rope = RopeUse::kGlobal;
  int window = 0;  // a token attends to so many tokens, the last of them itself; 0: to all
};

// Queries far into a text are made larger: by 1 + scale * log(1 + floor(position / step)).
struct QueryTemperature {
  float scale = 0.0F;  // 0: they are not
  int step = 0;        // tokens
};

// The MLPs of a layer of which a token passes some.
struct ExpertsConfig {
  int n = 0;  // 0: there is one MLP, and it is no expert
  int n_used = 0;
  int n_ff = 0;  // of each
};

// Of recurrent layers.
struct RecurrenceConfig {
  int conv_tokens = 0;    // that a token's convolution reads, the last of them itself; 0: no layer is recurrent
  int conv_channels = 0;  // values of a token that it is made of
  int n_key_heads = 0;    // of a delta net, as all that follows
  int n_value_heads = 0;  // a multiple of it
  int head_dim = 0;       // of both

  int key_width() const { return n_key_heads * head_dim; }
  int value_width() const { return n_value_heads * head_dim; }
  int conv_values() const { return (conv_tokens - 1) * conv_channels; }  // of a state: what the convolution reads of it
};

// Constant after loading.
struct ModelConfig {
  std::string name;  // general.name, or the file's name
  Architecture architecture = Architecture::kLlama;
  int n_layers = 0;
  int n_prediction_layers = 0;  // that the file has behind these, and that nothing here reads
  int n_embd = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;  // of K and of V: models in which they differ are refused
  int n_ff = 0;      // of the one MLP
  ExpertsConfig experts;
  RecurrenceConfig recurrence;
  int n_vocab = 0;
  int n_ctx_train = 0;  // tokens
  float rms_epsilon = 1e-5F;
  float attention_scale = 0.0F;  // of scores; 1/sqrt(head_dim) unless the model's metadata sets it
  RopeConfig rope;
  RopeConfig local_rope;      // of layers that use it: those with a window, in some architectures
  bool long_factors = false;  // of FrequencyFactors::kLongShort, the long ones: contexts may be longer than the original
  std::vector<LayerTraits> layers;  // [n_layers]
  QueryTemperature temperature;
  float embedding_scale = 1.0F;  // of what the token embedding gives
  float residual_scale = 1.0F;   // of what attention and MLP add
  float logit_scale = 1.0F;
  float logit_softcap = 0.0F;  // logits become softcap * tanh(logits / softcap); 0: they stay
  bool tied_output = false;
  bool qkv_bias = false;
  bool key_bias = false;  // some layer adds a bias to K, which K before RoPE (in packs, taps, maps) does not contain
  bool qk_norm = false;

  const LayerTraits& layer(int i) const { return layers[static_cast<std::size_t>(i)]; }
  bool has_windows() const;
  bool has_states() const { return recurrence.conv_tokens > 0; }  // some layer is recurrent
  int state_values(int i) const { return has_states() ? layer(i).state_values : 0; }
  int n_row_layers() const;           // that keep rows of K and V
  std::uint64_t state_bytes() const;  // of all layers together
  const ArchitectureTraits& traits() const { return traits_of(architecture); }
  int kv_width() const { return n_kv_heads * head_dim; }  // values of K (or V) per token and layer
};

// Models whose KV may be compared bit by bit: whatever else is equal, other classes round differently.
enum class Arithmetic : std::uint16_t {
  kCpu = 1,          // of weights that are kept in 8 bits or more: as since version 1 of the pack format
  kCpuIntegers = 2,  // of weights of fewer bits: products of our own, where class 1 had ggml's
  kDevice = 3,       // computed on a GPU, some layers at least: bits depend on the product and its driver
  kLibllama = 4,     // whatever libllama computes: states of it, whose build `rope` names
};

const char* to_string(Arithmetic arithmetic);

// Everything that must be equal for one node's KV to be another's. Compared field by field so that a refusal can name
// the field that differs.
struct ModelFingerprint {
  std::string architecture;
  std::uint32_t n_layers = 0;
  std::uint32_t n_kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::vector<std::uint32_t> states;  // [n_layers] bytes of each layer's state, 0: it keeps K and V; empty: all keep them
  std::string rope;                   // canonical text of RopeConfig, and of what else the metadata decides about the graphs
  Hash256 weights;                    // over every tensor's name, type, shape and bytes
  Hash256 tokenizer;                  // over every tokenizer.* key of the GGUF
  Arithmetic arithmetic = Arithmetic::kCpu;  // not part of id(), which names weights whoever computes with them

  bool operator==(const ModelFingerprint&) const = default;
  std::uint32_t state_bytes(int layer) const { return states.empty() ? 0 : states[static_cast<std::size_t>(layer)]; }
  Hash256 id() const;
  // "n_layers (24 here, 28 there)"; empty if equal.
  std::string difference(const ModelFingerprint& other) const;
};

}  // namespace celslm
