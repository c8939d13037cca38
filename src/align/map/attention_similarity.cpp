#include "align/map/attention_similarity.h"

#include <cmath>

#include "align/map/apply.h"
#include "align/map/index_range.h"
#include "align/map/kv_planes.h"

namespace celslm {

Result<AttentionOutputs> attention_outputs(Engine& engine, std::span<const std::shared_ptr<const KvSegment>> contexts,
                                           std::span<const Token> tokens) {
  const ModelConfig& config = engine.model().config();
  const int n_tokens = static_cast<int>(tokens.size());
  CELSLM_TRY(const auto own, KvSegment::create(config, KvType::kF16, contexts.front()->next_position(), n_tokens));
  CELSLM_TRY(Hidden hidden, engine.embed(tokens));
  const auto chunk = [&](const auto& context) {
    return SequenceChunk{.context = context, .own = own, .n_tokens = n_tokens};
  };
  AttentionOutputs out;
  for (int layer = 0; layer < config.n_layers; ++layer) {
    std::vector<std::vector<float>>& outputs = out.emplace_back();
    for (const auto& context : contexts) {
      const SequenceChunk one = chunk(context);
      CELSLM_TRY(auto output, engine.attention_output(layer, {&one, 1}, hidden));
      outputs.push_back(std::move(output));
    }
    const SequenceChunk first = chunk(contexts.front());
    CELSLM_CHECK_OK(engine.run_layers(layer, layer + 1, {&first, 1}, hidden));
  }
  return out;
}

double cosine_similarity(std::span<const float> a, std::span<const float> b) {
  double ab = 0.0;
  double aa = 0.0;
  double bb = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return aa > 0.0 && bb > 0.0 ? ab / std::sqrt(aa * bb) : 0.0;
}

Result<std::optional<double>> similarity_at_beginning(const KvMap& map, Engine& source, Engine& target,
                                                      std::span<const Token> tokens) {
  if (tokens.size() < kSimilarityContext + kSimilarityProbes) return std::nullopt;
  const auto context = tokens.first(kSimilarityContext);
  const auto probes = tokens.subspan(kSimilarityContext, kSimilarityProbes);
  CELSLM_TRY(const ExactKv native, compute_kv(target, context));
  CELSLM_TRY(const ExactKv large, compute_kv(source, context));
  const KvPlanes mapped = map_planes(map, large.planes, index_range(kSimilarityContext));
  CELSLM_TRY(const auto segment, make_segment(target.model(), native.planes, mapped, map.gate.split));
  const std::vector<std::shared_ptr<const KvSegment>> segments{native.segment, segment};
  CELSLM_TRY(const AttentionOutputs outputs, attention_outputs(target, segments, probes));
  double sum = 0.0;
  const auto split = static_cast<std::size_t>(map.gate.split);
  for (std::size_t layer = split; layer < outputs.size(); ++layer)
    sum += cosine_similarity(outputs[layer][0], outputs[layer][1]);
  return sum / static_cast<double>(outputs.size() - split);
}

}  // namespace celslm
