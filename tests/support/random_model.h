// Small models with random weights, written as GGUF files: every feature of the supported families, in milliseconds.
#pragma once

#include <ggml.h>
#include <gguf.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace celslm::testing_support {

inline constexpr const char* kChatMlTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% "
    "endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

struct RandomModel {
  std::string architecture = "llama";  // llama, qwen2, qwen3; another name writes that name into a llama
  int n_layers = 2;
  int n_embd = 64;
  int n_heads = 4;
  int n_kv_heads = 2;
  int head_dim = 0;  // 0: n_embd / n_heads, and no key_length in the file
  int n_ff = 96;
  int n_ctx = 512;
  int n_filler = 0;                // tokens beyond the 256 bytes, a few merges and the control words
  ggml_type type = GGML_TYPE_F32;  // of matrices; rows must be whole blocks
  bool tied = false;
  bool qkv_bias = false;  // always, for qwen2
  float rope_base = 10000.0F;
  std::string rope_scaling;  // empty: not in the file
  float rope_factor = 0.0F;  // 0: not in the file
  int rope_original_context = 0;
  float yarn_attn_factor = 0.0F;  // 0: not in the file
  bool frequency_factors = false;
  bool add_bos = false;
  std::vector<std::string> control_words = {"<|im_start|>", "<|im_end|>"};  // the last ends a generation and begins a text
  std::string chat_template = kChatMlTemplate;                              // empty: none
  std::uint64_t seed = 1;

  // Faults, for the tests of what a loader refuses.
  std::string missing_tensor;               // left out
  std::string misshapen_tensor;             // written with one row (or value) more
  std::string extra_tensor;                 // written besides the model's own
  std::function<void(gguf_context*)> edit;  // of the metadata, last
};

// The vocabulary is byte-level BPE: tokens 0..255 are single bytes, a few merges of frequent English pairs follow, then
// fillers, then the control words.
void write_random_model(const std::filesystem::path& path, const RandomModel& model);

// The same model with its KV heads, and the query heads that belong to them, in another order: new head i is old head
// order[i]. It says the same; its K and V are permuted. Of a model of type f32.
void write_permuted_model(const std::filesystem::path& from, const std::filesystem::path& to, const std::vector<int>& order);

// A folder of its own for one test, removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace celslm::testing_support
