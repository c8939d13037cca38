// How similar attention's outputs are behind different KV of one context. What a model answers depends on KV only through
// these, so they tell how good a map is where comparing KV itself does not: errors in directions that no query looks at are
// harmless.
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

// Of each layer, what attention puts out at `tokens` behind each of the contexts, all of one length. What enters a layer is
// what the first context led to, so that layers are compared one by one.
Result<AttentionOutputs> attention_outputs(Engine& engine, std::span<const std::shared_ptr<const KvSegment>> contexts,
                                           std::span<const Token> tokens);

// Of two vectors of one size; 0 where one is all zero.
double cosine_similarity(std::span<const float> a, std::span<const float> b);

// Whether a map suits a context, by a prefill of its first kSimilarityContext tokens by each model, whatever its length: the
// cosine of attention outputs behind mapped KV and behind the target's own, at the next kSimilarityProbes tokens, as a mean
// over the layers that the map's gate lets through. nullopt for a context too short for that. The engines run the map's
// source and target.
inline constexpr std::size_t kSimilarityContext = 64;
inline constexpr std::size_t kSimilarityProbes = 8;
Result<std::optional<double>> similarity_at_beginning(const KvMap& map, Engine& source, Engine& target,
                                                      std::span<const Token> tokens);

}  // namespace celslm
