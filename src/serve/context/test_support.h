// Contexts small enough for tests.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "serve/context/resident_context.h"

namespace celslm::testing_support {

inline ModelConfig tiny() {
  ModelConfig config;
  config.n_layers = 3;
  config.n_heads = config.n_kv_heads = 1;
  config.head_dim = 8;
  config.n_ctx_train = 64;
  return config;
}

inline std::shared_ptr<ResidentContext> make(std::string_view text, int n_tokens = 4) {
  return *ResidentContext::create(context_handle(text), tiny(), hash_of(text),
                                  std::vector<Token>(static_cast<std::size_t>(n_tokens)), KvType::kF16);
}

}  // namespace celslm::testing_support
