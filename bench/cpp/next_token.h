// Next-token distributions of the same tokens by two programs: our engine, and libllama on any GGUF.
#pragma once

#include <llama-cpp.h>

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

// Runs a model over sequences of tokens. Used by one thread.
class NextToken {
 public:
  virtual ~NextToken() = default;
  // Begins a new, empty sequence that has room for `capacity` tokens.
  virtual Status start(int capacity) = 0;
  // Appends tokens to the sequence: the logits behind each of the last `n_rows` of them, [n_rows][n_vocab]. 1 <= n_rows <=
  // tokens.size(). Errors of the engine; kInternal where libllama fails.
  virtual Result<std::vector<float>> append(std::span<const Token> tokens, int n_rows) = 0;
  // Removes all tokens but the first `n_tokens`.
  virtual void truncate(int n_tokens) = 0;
};

// Our engine with f16 KV, which must outlive what is returned. Prefills in the steps that clouds and edges take.
std::unique_ptr<NextToken> ours(Engine& engine);

struct LlamaOptions {
  int n_threads = 2;
  int n_context = 512;  // the most tokens that a sequence will have
  // f32 KV and attention by plain operators: libllama's most exact arithmetic. Otherwise its defaults: f16 KV, flash
  // attention where it has it.
  bool exact = false;
};

// kInvalid where libllama cannot load the file.
Result<std::unique_ptr<NextToken>> llama(const std::filesystem::path& gguf, const LlamaOptions& options);

}  // namespace celslm
