// For tests of batching: a small random model, made-up prompts, and answers collected from their channel.
#pragma once

#include <gmock/gmock.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "serve/batch/generation.h"
#include "tests/support/manual_clock.h"
#include "tests/support/random_model.h"

namespace celslm::testing_support {

// Time only moves when a test moves it, so this is "until the answer is there".
inline constexpr Duration kForever = std::chrono::hours(1);

inline std::vector<Token> some_tokens(int n, int seed) {
  std::vector<Token> out;
  for (int i = 0; i < n; ++i) out.push_back((i * 37 + seed) % 200 + 1);
  return out;
}

inline std::vector<Token> joined(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline GenerationRequest request(std::vector<Token> prompt, int max_tokens) {
  return {.prompt = std::move(prompt), .max_tokens = max_tokens, .sampler = {.temperature = 0}};
}

struct Answer {
  std::string text;
  Usage usage;
  std::optional<FinishReason> reason;  // none while it goes on
  std::optional<Error> error;
};

// Adds to the answer what its channel holds, waiting for each piece for at most so long.
inline void collect(Generation& generation, Answer& answer, Duration patience) {
  while (!answer.reason && !answer.error) {
    auto piece = generation.take(patience);
    if (!piece) return;
    answer.text += piece->text;
    answer.usage = piece->usage;
    answer.reason = piece->finish;
    answer.error = piece->error;
  }
}

class BatchFixture : public testing::Test {
 protected:
  BatchFixture() {
    write_random_model(folder_ / "m.gguf", {.n_layers = 3, .n_ctx = 2048});
    model_ = *Model::load(folder_ / "m.gguf");
  }
  std::unique_ptr<Engine> engine() const { return *Engine::create(model_, {.n_threads = 1}); }
  std::uint64_t bytes_for(int n_tokens) const { return KvSegment::resident_bytes(model_->config(), KvType::kF16, n_tokens); }
  // A context of which no layer comes until somebody fills it.
  std::shared_ptr<ResidentContext> empty_context(int n_tokens = 40) const {
    return *ResidentContext::create(context_handle("a context"), model_->config(), hash_of("a context"),
                                    some_tokens(n_tokens, 3), KvType::kF16);
  }

  ManualClock clock_;
  const TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
};

}  // namespace celslm::testing_support
