// The engine of models that libllama runs: what Engine does, over sequences in libllama's memory.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine/batch.h"
#include "model/engine/engine.h"
#include "model/engine/model.h"
#include "model/llama/llama_context.h"

namespace celslm {

// Such a model has one layer, in which all of it happens, and hidden states that are the tokens themselves. As Engine: one
// thread at a time.
class ForeignEngine {
 public:
  // options.n_threads >= 1. Errors of LlamaContext::create().
  static Result<std::unique_ptr<ForeignEngine>> create(std::shared_ptr<const Model> model, const EngineOptions& options);

  const Model& model() const { return *model_; }

  Result<Hidden> embed(std::span<const Token> tokens) const;
  // kInvalid for anything but the one layer.
  Status run_layers(int first, int last, std::span<const SequenceChunk> batch, const Hidden& hidden);
  // Of the last row of the batch that was run last only: libllama keeps no hidden states. kInvalid for others.
  Result<std::span<const float>> logits(const Hidden& hidden, std::span<const int> rows) const;
  Result<std::span<const float>> forward(std::span<const Token> tokens, std::span<const SequenceChunk> batch);
  // All of a context's KV as libllama writes it.
  Result<Bytes> state(const KvSegment& segment);

 private:
  ForeignEngine(std::shared_ptr<const Model> model, std::unique_ptr<LlamaContext> llama)
      : model_(std::move(model)), llama_(std::move(llama)) {}
  Status check_tokens(std::span<const Token> tokens) const;
  Result<LlamaSequence*> sequence_for(const SequenceChunk& chunk);
  Status decode(std::span<const Token> tokens, std::span<const SequenceChunk> batch);

  const std::shared_ptr<const Model> model_;
  const std::unique_ptr<LlamaContext> llama_;
};

}  // namespace celslm
