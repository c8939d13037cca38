// Chooses the next token from logits, with libllama's samplers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "model/grammar/grammar_spec.h"
#include "model/text/text.h"

namespace celslm {

// Dividing logits by less leaves the largest one's only in theory: from 1e-37 on it overflows.
inline constexpr float kLeastTemperature = 1e-4F;

struct SamplerOptions {
  float temperature = 0.0F;  // below kLeastTemperature: greedy
  int top_k = 0;             // 0: off
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repeat_penalty = 1.0F;
  float frequency_penalty = 0.0F;
  float presence_penalty = 0.0F;
  int penalty_last_n = 64;  // tokens
  std::uint32_t seed = 0;
  GrammarSpec grammar;                              // not the Sampler's: see model/constraint/constrained_choice.h
  std::vector<std::pair<Token, float>> logit_bias;  // added before anything else
};

struct TokenLogprob {
  Token token = 0;
  float logprob = 0.0F;  // natural logarithm, from the unmodified logits
};

// The `n` most probable tokens, best first; logits: [n_vocab], log_sum: their log_sum_exp().
std::vector<TokenLogprob> most_probable(std::span<const float> logits, int n, float log_sum);

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
