#include "tests/support/llama_oracle.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "model/backend.h"

namespace celslm::testing_support {

LlamaOracle::LlamaOracle(const std::filesystem::path& gguf, ggml_type kv_type, int n_ctx) {
  if (!CpuBackend::get()) throw std::runtime_error("no CPU backend");
  model_.reset(llama_model_load_from_file(gguf.c_str(), llama_model_default_params()));
  if (!model_) throw std::runtime_error("libllama cannot load " + gguf.string());
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<std::uint32_t>(n_ctx);
  params.n_batch = params.n_ubatch = params.n_ctx;
  params.n_threads = params.n_threads_batch = 1;
  params.type_k = params.type_v = kv_type;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  context_.reset(llama_init_from_model(model_.get(), params));
  if (!context_) throw std::runtime_error("libllama cannot create a context for " + gguf.string());
}

int LlamaOracle::n_vocab() const {
  return llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
}

std::vector<float> LlamaOracle::logits(std::span<const Token> tokens) {
  llama_memory_clear(llama_get_memory(context_.get()), true);
  llama_batch batch = llama_batch_init(static_cast<std::int32_t>(tokens.size()), 0, 1);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = static_cast<llama_pos>(i);
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  batch.n_tokens = static_cast<std::int32_t>(tokens.size());
  const int status = llama_decode(context_.get(), batch);
  llama_batch_free(batch);
  if (status != 0) throw std::runtime_error("llama_decode failed");
  const float* all = llama_get_logits(context_.get());
  return {all, all + tokens.size() * static_cast<std::size_t>(n_vocab())};
}

std::vector<Token> LlamaOracle::greedy(std::span<const Token> prompt, int n) {
  llama_memory_clear(llama_get_memory(context_.get()), true);
  std::vector<Token> next(prompt.begin(), prompt.end());
  std::vector<Token> out;
  while (static_cast<int>(out.size()) < n) {
    if (llama_decode(context_.get(), llama_batch_get_one(next.data(), static_cast<std::int32_t>(next.size()))) != 0) {
      throw std::runtime_error("llama_decode failed");
    }
    const float* row = llama_get_logits_ith(context_.get(), -1);
    next = {static_cast<Token>(std::max_element(row, row + n_vocab()) - row)};
    out.push_back(next.front());
  }
  return out;
}

double nmse(std::span<const float> got, std::span<const float> want) {
  if (got.size() != want.size() || want.empty()) return std::numeric_limits<double>::infinity();
  double error = 0;
  double power = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += (static_cast<double>(got[i]) - want[i]) * (static_cast<double>(got[i]) - want[i]);
    power += static_cast<double>(want[i]) * want[i];
  }
  return error / power;
}

}  // namespace celslm::testing_support
