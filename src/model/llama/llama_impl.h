// Libllama's handles; for this room's own files.
#pragma once

#include <llama.h>

#include <memory>

#include "model/llama/llama_model.h"

namespace celslm {

struct LlamaWeightsDeleter {
  void operator()(llama_model* model) const { llama_model_free(model); }
};
struct LlamaContextDeleter {
  void operator()(llama_context* context) const { llama_free(context); }
};
using LlamaContextPtr = std::unique_ptr<llama_context, LlamaContextDeleter>;

struct LlamaModel::Impl {
  std::unique_ptr<llama_model, LlamaWeightsDeleter> model;
  std::uint64_t token_bytes = 0;
  std::uint64_t sequence_bytes = 0;
};

// Rows that libllama computes at once at most. More are passed in several parts.
inline constexpr std::uint32_t kLlamaBatch = 512;

// Everything that decides about the bits of a state but the model: the same at every node.
inline llama_context_params llama_params(std::uint32_t n_tokens, std::uint32_t n_sequences, int n_threads) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = n_tokens;
  params.n_batch = params.n_ubatch = kLlamaBatch;
  params.n_seq_max = n_sequences;
  params.n_outputs_max = n_sequences;
  params.n_threads = params.n_threads_batch = n_threads;
  params.kv_unified = true;  // sequences share the rows of a context that they begin with
  params.offload_kqv = params.op_offload = false;
  return params;
}

}  // namespace celslm
