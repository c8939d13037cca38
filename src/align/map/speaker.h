// A model that speaks behind a context whose KV came from anywhere.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

inline constexpr int kGreedyTokens = 64;  // of an answer, at most

// One thread. The engine must outlive this.
class Speaker {
 public:
  explicit Speaker(Engine& engine) : engine_(engine) {}

  // Logits at every position of `tokens` behind the context, [tokens.size()][n_vocab].
  Result<std::vector<float>> follow(const std::shared_ptr<const KvSegment>& context, std::span<const Token> tokens);

  // The likeliest tokens, one after the other, up to the one that ends the answer.
  Result<std::vector<Token>> answer(const std::shared_ptr<const KvSegment>& context, std::span<const Token> prompt,
                                    int limit = kGreedyTokens);

  // Of each layer, what attention puts out at `tokens` behind each of the contexts, all of one length:
  // [layer][context][tokens.size() * n_heads * head_dim]. What enters a layer is what the first context led to, so that
  // layers are compared one by one.
  Result<std::vector<std::vector<std::vector<float>>>> attention_outputs(
      std::span<const std::shared_ptr<const KvSegment>> contexts, std::span<const Token> tokens);

 private:
  Result<std::shared_ptr<KvSegment>> own_segment(int first_position, std::size_t tokens);

  Engine& engine_;
};

// The token with the largest logit.
Token best(std::span<const float> logits);
// D(exact || other) of one position's logits, in nats.
double divergence(std::span<const float> exact, std::span<const float> other);
// -log of the probability of `token`, in nats.
double surprise(std::span<const float> logits, Token token);
// Of two vectors of one size; 0 where one is all zero.
double cosine(std::span<const float> a, std::span<const float> b);

}  // namespace celslm
