// Runs a model behind a context whose KV is given, whatever its origin: teacher-forced or decoding greedily.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

// Maximum length of a greedy continuation, and number of tokens at the end of a plain text that are teacher-forced.
inline constexpr int kContinuationTokens = 64;

// The contexts passed in are not changed: each call writes to a segment of its own. Used by one thread. The engine must
// outlive this object. All calls return the engine's errors.
class ContextDecoder {
 public:
  explicit ContextDecoder(Engine& engine) : engine_(engine) {}

  // Teacher forcing: the logits at every position of `tokens` behind the context, [tokens.size()][n_vocab].
  Result<std::vector<float>> forced_logits(const std::shared_ptr<const KvSegment>& context, std::span<const Token> tokens);

  // Greedy decoding: the tokens after `prompt`, at most `limit`, up to and including the one that ends generation.
  Result<std::vector<Token>> greedy(const std::shared_ptr<const KvSegment>& context, std::span<const Token> prompt,
                                    int limit = kContinuationTokens);

 private:
  Result<std::shared_ptr<KvSegment>> create_segment(int first_position, std::size_t tokens);

  Engine& engine_;
};

// KL divergence D(exact || other) of the softmax distributions of one position, in nats. Both have n_vocab logits.
double kl_divergence(std::span<const float> exact, std::span<const float> other);
// -log p(token), in nats.
double negative_log_likelihood(std::span<const float> logits, Token token);

}  // namespace celslm
