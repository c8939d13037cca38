// The queries with which conversations about a context attend to it, layer by layer.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "align/map/eigen.h"
#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

// The queries of one layer, of all conversations' tokens.
class LayerQueries {
 public:
  LayerQueries(const ModelConfig& config, std::vector<float> values) : config_(&config), values_(std::move(values)) {}

  // Of all query heads that read this KV head: at most `most` of them, drawn at random, always the same. [n][head_dim]
  MatrixF of(int kv_head, int most) const;

 private:
  const ModelConfig* config_;
  std::vector<float> values_;  // [n_tokens][n_heads][head_dim]
};

// Conversations on their way through the layers. Used by one thread; engine and model outlive it.
class StudyQueries {
 public:
  // conversations: what follows the context. kInvalid if there are none, or one is empty; errors of the engine and of
  // KvSegment::create.
  static Result<StudyQueries> start(Engine& engine, std::shared_ptr<const KvSegment> context,
                                    std::span<const std::vector<Token>> conversations);

  // The queries of the next layer. All conversations then pass it behind the context.
  Result<LayerQueries> next();
  // The queries of the next layer; the conversations stay before it. Then pass(): they go through it behind `context`, which
  // ends at the same position as the one of start() and of which this layer only is read.
  Result<LayerQueries> peek();
  Status pass(const std::shared_ptr<const KvSegment>& context);

  int layer() const { return layer_; }  // the next one

 private:
  // Conversations that pass a layer together.
  struct Batch {
    Hidden hidden;
    std::vector<SequenceChunk> chunks;
  };

  explicit StudyQueries(Engine& engine) : engine_(&engine) {}
  Result<LayerQueries> queries(bool keep);

  Engine* engine_;
  std::vector<Batch> batches_;
  int layer_ = 0;
};

}  // namespace celslm
