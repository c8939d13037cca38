// KV by running a model's layers over the context, and adding a tuning's constants where there is one.
#pragma once

#include <memory>

#include "model/engine/engine.h"
#include "model/engine/key_weights.h"
#include "model/engine/model.h"
#include "model/kv/kv_tuning.h"
#include "serve/cloud/kv_producer.h"

namespace celslm {

// Constants for the KV of contexts, and what their gate measured.
struct ProducerTuning {
  std::shared_ptr<const KvTuning> constants;  // null: none, the model's own KV
  std::string gate;                           // JSON
};

// Owns an engine of its own; the model may be shared.
class ModelProducer final : public KvProducer {
 public:
  // kMismatch for a tuning of another shape.
  static Result<std::unique_ptr<ModelProducer>> create(std::shared_ptr<const Model> model, const EngineOptions& options,
                                                       const ProducerTuning& tuning = {});

  const HostedModel& model() const override { return hosted_; }
  Result<std::vector<Token>> tokens(std::string_view text) const override;
  std::vector<float> key_weights(int layer) const override { return celslm::key_weights(*model_, layer); }
  Status produce(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows) override;

 private:
  ModelProducer(std::shared_ptr<const Model> model, std::unique_ptr<Engine> engine, const ProducerTuning& tuning);

  const std::shared_ptr<const Model> model_;
  const std::unique_ptr<Engine> engine_;
  const std::shared_ptr<const KvTuning> tuning_;  // null: none
  const HostedModel hosted_;
};

}  // namespace celslm
