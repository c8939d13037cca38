// Small models with random weights, written as GGUF files within milliseconds, with every feature of the supported families.
#pragma once

#include <ggml.h>
#include <gguf.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace celslm::testing_support {

inline constexpr const char* kChatMlTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% "
    "endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

// Token ids of such models, of bytes: other ones for another seed.
inline std::vector<std::int32_t> byte_tokens(int n, int seed = 11) {
  std::vector<std::int32_t> out;
  out.reserve(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) out.push_back((i * 37 + seed) % 256);
  return out;
}

// A metadata key of the architecture, without its prefix.
struct RandomModelKey {
  std::string name;
  std::variant<int, float, bool> value;
};

struct RandomModel {
  std::string architecture = "llama";  // any that the engine knows; with any other name a llama model under that name
  int n_layers = 2;
  int n_embd = 64;
  int n_heads = 4;
  int n_kv_heads = 2;
  int head_dim = 0;   // 0: n_embd / n_heads, without key_length in the file
  int n_ff = 96;      // of each expert, for qwen3moe and gpt-oss
  int n_experts = 4;  // for those
  int n_experts_used = 2;
  int attention_every = 2;  // the last of so many layers has attention, the others are recurrent, for lfm2 and qwen35
  int conv_tokens = 3;      // of those, as all that follows
  int n_key_heads = 2;      // for qwen35
  int n_value_heads = 4;
  int state_head_dim = 16;
  int n_ctx = 512;
  int n_filler = 0;                // additional tokens beside bytes, merges and control words
  ggml_type type = GGML_TYPE_F32;  // of matrices; rows must consist of complete blocks
  bool tied = false;
  bool qkv_bias = false;    // always, for qwen2
  float key_bias = 0.5F;    // standard deviation of K's bias, where there is one; real Qwen2's reaches 200
  int rope_dimensions = 0;  // 0: head_dim
  float rope_base = 10000.0F;
  std::string rope_scaling;  // empty: not in the file
  float rope_factor = 0.0F;  // 0: not in the file
  int rope_original_context = 0;
  float yarn_attn_factor = 0.0F;  // 0: not in the file
  bool frequency_factors = false;
  std::vector<RandomModelKey> keys;   // in addition
  bool separate_projections = false;  // not fused, for phi3
  bool add_bos = false;
  std::vector<std::string> control_words = {"<|im_start|>", "<|im_end|>"};  // the last one is both EOS and BOS
  std::string chat_template = kChatMlTemplate;                              // empty: none
  std::uint64_t seed = 1;

  // Faults that a loader must reject.
  std::string missing_tensor;               // omitted
  std::string misshapen_tensor;             // written with one additional row (or value)
  std::string extra_tensor;                 // written in addition
  std::function<void(gguf_context*)> edit;  // changes the metadata before it is written
};

// The vocabulary is byte-level BPE: tokens 0..255 are single bytes, a few merges of frequent English pairs follow, then
// fillers, then the control words.
void write_random_model(const std::filesystem::path& path, const RandomModel& model);

// Writes the same model with its KV heads, and the query heads of their groups, in another order: new head i is old head
// order[i]. Its output is unchanged; its K and V are permuted. The model must be f32.
void write_permuted_model(const std::filesystem::path& from, const std::filesystem::path& to, const std::vector<int>& order);

// Writes the same model in n files, STEM-00001-of-0000n.gguf and so on, as llama-gguf-split does; the first one has the
// metadata and no tensor.
std::vector<std::filesystem::path> split_model(const std::filesystem::path& from, const std::filesystem::path& stem, int n);

}  // namespace celslm::testing_support
