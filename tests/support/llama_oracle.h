// libllama on the same GGUF: the reference for the engine's logits and tokens.
#pragma once

#include <llama.h>

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "model/config.h"

namespace celslm::testing_support {

// By default with f32 KV, without flash attention and on one thread: libllama's most exact configuration. Throws
// std::runtime_error on failure.
class LlamaOracle {
 public:
  explicit LlamaOracle(const std::filesystem::path& gguf, ggml_type kv_type = GGML_TYPE_F32, int n_ctx = 512);

  // The logits at every position of a new sequence: [tokens.size()][n_vocab].
  std::vector<float> logits(std::span<const Token> tokens);
  // The greedy continuation of the prompt, n tokens.
  std::vector<Token> greedy(std::span<const Token> prompt, int n);
  int n_vocab() const;

 private:
  struct Deleter {
    void operator()(llama_model* m) const { llama_model_free(m); }
    void operator()(llama_context* c) const { llama_free(c); }
  };
  std::unique_ptr<llama_model, Deleter> model_;
  std::unique_ptr<llama_context, Deleter> context_;
};

// Normalised mean squared error: mean squared error / mean square of `want`.
double nmse(std::span<const float> got, std::span<const float> want);

}  // namespace celslm::testing_support
