// Similarity of attention outputs behind different KV of the same context. A model's output depends on a context's KV only
// through these, so they measure the quality of a map better than the KV itself: errors in directions that no query attends
// to are harmless.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "align/map/kv_map.h"
#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

// [layer][context][n_tokens * n_heads * head_dim]
using AttentionOutputs = std::vector<std::vector<std::vector<float>>>;

// Attention output of every layer at `tokens` behind each of the contexts, which must have the same length. Every layer's
// input is the hidden state that the first context leads to, so differences do not accumulate from layer to layer. Errors of
// the engine.
Result<AttentionOutputs> attention_outputs(Engine& engine, std::span<const std::shared_ptr<const KvSegment>> contexts,
                                           std::span<const Token> tokens);

// Of two vectors of the same size; 0 if either is all zero.
double cosine_similarity(std::span<const float> a, std::span<const float> b);

// A cheap check of how well a map suits a context: both models prefill its first kSimilarityContext tokens, and the
// attention outputs at the next kSimilarityProbes tokens behind mapped and behind native KV are compared. Returns their
// cosine similarity, as a mean over the layers from the gate's split on; nullopt if the context is too short. The engines
// must run the map's source and target. Errors of the engines.
inline constexpr std::size_t kSimilarityContext = 64;
inline constexpr std::size_t kSimilarityProbes = 8;
Result<std::optional<double>> similarity_at_beginning(const KvMap& map, Engine& source, Engine& target,
                                                      std::span<const Token> tokens);

}  // namespace celslm
