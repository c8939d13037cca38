// A model's output behind a context whose KV may come from anywhere: forced along given tokens, or decoded greedily.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

inline constexpr int kGreedyTokens = 64;  // of an answer, at most

// One thread. The engine must outlive this.
class ContextDecoder {
 public:
  explicit ContextDecoder(Engine& engine) : engine_(engine) {}

  // Teacher-forced: logits at every position of `tokens` behind the context, [tokens.size()][n_vocab].
  Result<std::vector<float>> forced_logits(const std::shared_ptr<const KvSegment>& context, std::span<const Token> tokens);

  // The likeliest tokens, one after the other, up to the one that ends the answer.
  Result<std::vector<Token>> greedy(const std::shared_ptr<const KvSegment>& context, std::span<const Token> prompt,
                                    int limit = kGreedyTokens);

 private:
  Result<std::shared_ptr<KvSegment>> own_segment(int first_position, std::size_t tokens);

  Engine& engine_;
};

// D(exact || other) of one position's logits, in nats.
double kl_divergence(std::span<const float> exact, std::span<const float> other);
// -log of the probability of `token`, in nats.
double negative_log_likelihood(std::span<const float> logits, Token token);

}  // namespace celslm
