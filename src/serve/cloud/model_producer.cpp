#include "serve/cloud/model_producer.h"

#include "model/engine/prefill.h"
#include "model/text/context_room.h"

namespace celslm {

Result<std::unique_ptr<ModelProducer>> ModelProducer::create(std::shared_ptr<const Model> model,
                                                             const EngineOptions& options, const ProducerTuning& tuning) {
  if (tuning.constants) CELSLM_CHECK_OK(check_shape(*tuning.constants, model->config()));
  CELSLM_TRY(auto engine, Engine::create(model, options));
  return std::unique_ptr<ModelProducer>(new ModelProducer(std::move(model), std::move(engine), tuning));
}

ModelProducer::ModelProducer(std::shared_ptr<const Model> model, std::unique_ptr<Engine> engine,
                             const ProducerTuning& tuning)
    : model_(std::move(model)),
      engine_(std::move(engine)),
      tuning_(tuning.constants),
      hosted_{.name = model_->config().name,
              .n_ctx = model_->config().n_ctx_train,
              .fingerprint = model_->fingerprint(),
              .tuning = tuning_ ? std::optional(HostedTuning{.id = tuning_->id, .gate = tuning.gate}) : std::nullopt} {}

Result<std::vector<Token>> ModelProducer::tokens(std::string_view text) const {
  return context_with_room(model_->text(), text, model_->config().n_ctx_train);
}

Status ModelProducer::produce(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows) {
  CELSLM_TRY(auto segment, KvSegment::create(model_->config(), type, 0, static_cast<int>(tokens.size())));
  CELSLM_TRY(auto prefill,
             ContextPrefill::start(*engine_, tokens, std::move(segment), tuning_, ContextPrefill::Rows::kShown));
  Status shown;  // the tap cannot return an error through the engine
  const ContextPrefill::Tap tap = [&](int layer, int first_row, std::span<const float> k, std::span<const float> v) {
    shown = on_rows(layer, first_row, k, v);
  };
  while (!prefill.finished()) {
    if (stop.stop_requested())
      return fail(ErrorKind::kCancelled, "the computation was stopped at layer {}", prefill.layers_done());
    CELSLM_CHECK_OK(prefill.advance(tap));
    if (!shown) return shown;
  }
  return {};
}

}  // namespace celslm
