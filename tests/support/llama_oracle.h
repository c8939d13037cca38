// libllama on the same GGUF: what the engine's logits and tokens are compared with.
#pragma once

#include <llama.h>

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "model/config.h"

namespace celslm::testing_support {

// F32 KV, no flash attention, one thread: libllama at its most exact.
class LlamaOracle {
 public:
  explicit LlamaOracle(const std::filesystem::path& gguf, ggml_type kv_type = GGML_TYPE_F32, int n_ctx = 512);

  // One sequence from the start: the logits of every token, [tokens.size()][n_vocab].
  std::vector<float> logits(std::span<const Token> tokens);
  // The prompt's most likely continuation.
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

// Mean squared error over the mean square of `want`.
double nmse(std::span<const float> got, std::span<const float> want);

}  // namespace celslm::testing_support
