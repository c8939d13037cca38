// Chooses the next token from logits, with libllama's samplers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "model/grammar/grammar_spec.h"
#include "model/text/text.h"

namespace celslm {

struct SamplerOptions {
  float temperature = 0.0F;  // 0: greedy
  int top_k = 0;             // 0: off
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repeat_penalty = 1.0F;
  float frequency_penalty = 0.0F;
  float presence_penalty = 0.0F;
  int penalty_last_n = 64;  // tokens
  std::uint32_t seed = 0;
  GrammarSpec grammar;  // not the Sampler's: see model/constraint/constrained_choice.h
};

struct TokenLogprob {
  Token token = 0;
  float logprob = 0.0F;  // natural logarithm, from the unmodified logits
};

struct Sampled {
  Token token = 0;
  float logprob = 0.0F;
  std::vector<TokenLogprob> top;  // the n asked for, best first
};

// The token that ends an answer: of a turn, if there is one.
Token end_token(const Text& text);

// State of one sequence's sampling. One thread at a time; movable.
class Sampler {
 public:
  // kInvalid for options out of range.
  static Result<Sampler> create(const Text& text, const SamplerOptions& options);
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // logits: [n_vocab]. Accepts the chosen token into penalties.
  Sampled sample(std::span<const float> logits, int n_top = 0);

  // In parts, for callers that may want another token than the first choice: choose() may be called again, from logits in
  // which tokens that may not come are minus infinity, before one is accepted.
  Token choose(std::span<const float> logits);
  void accept(Token token);
  static Sampled described(Token token, std::span<const float> logits, int n_top);

 private:
  struct Impl;
  explicit Sampler(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm
