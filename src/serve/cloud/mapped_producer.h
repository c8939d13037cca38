// KV of a small model by running a large one over the context and a layer map over its KV.
#pragma once

#include <memory>

#include "align/map/kv_map.h"
#include "model/engine/engine.h"
#include "model/engine/key_weights.h"
#include "model/engine/model.h"
#include "serve/cloud/kv_producer.h"

namespace celslm {

struct MappedOptions {
  EngineOptions engine;  // of each of the two engines
  // similarity_at_beginning() of a context must be at least this; otherwise it is refused, and edges use their own KV for
  // it.
  double least_cosine = 0.2;
};

// Owns engines of its own; the models may be shared.
class MappedProducer final : public KvProducer {
 public:
  // kMismatch: the map is of other models, was refused, or was never judged; or the models have different tokenizers,
  // between which maps can be fitted and judged but not served yet.
  static Result<std::unique_ptr<MappedProducer>> create(std::shared_ptr<const Model> source,
                                                        std::shared_ptr<const Model> target, KvMap map,
                                                        const MappedOptions& options);

  const HostedModel& model() const override { return hosted_; }
  Result<std::vector<Token>> tokens(std::string_view text) const override;
  std::vector<float> key_weights(int layer) const override { return celslm::key_weights(*target_, layer); }
  // Layers below the gate's split by the small model, the others through the map. kMismatch for a context whose beginning
  // does not pass the check of MappedOptions.
  Status produce(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows) override;

 private:
  MappedProducer(std::shared_ptr<const Model> target, std::unique_ptr<Engine> large, std::unique_ptr<Engine> small,
                 KvMap map, double least_cosine);

  Status check_beginning(std::span<const Token> tokens);
  Status produce_native(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows);
  Status produce_mapped(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows);

  const std::shared_ptr<const Model> target_;
  const std::unique_ptr<Engine> large_;
  const std::unique_ptr<Engine> small_;
  const KvMap map_;
  const double least_cosine_;
  const HostedModel hosted_;
};

}  // namespace celslm
