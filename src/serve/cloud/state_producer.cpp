#include "serve/cloud/state_producer.h"

#include "model/engine/prefill.h"
#include "model/text/context_room.h"

namespace celslm {

StateProducer::StateProducer(std::shared_ptr<const Model> model, int n_threads)
    : model_(std::move(model)),
      n_threads_(n_threads),
      hosted_{.name = model_->config().name, .n_ctx = model_->config().n_ctx_train, .fingerprint = model_->fingerprint()} {}

Result<std::vector<Token>> StateProducer::tokens(std::string_view text) const {
  return context_with_room(model_->text(), text, model_->config().n_ctx_train);
}

Status StateProducer::produce(std::span<const Token> /*tokens*/, KvType /*type*/, std::stop_token /*stop*/,
                              const OnRows& /*on_rows*/) {
  return fail(ErrorKind::kInvalid, "a model that libllama runs has states and no rows");
}

Result<Bytes> StateProducer::produce_state(std::span<const Token> tokens, std::stop_token stop) {
  const auto n_tokens = static_cast<int>(tokens.size());
  CELSLM_TRY(const auto engine,
             Engine::create(model_, {.n_threads = n_threads_, .foreign = {.n_tokens = n_tokens, .n_sequences = 1}}));
  CELSLM_TRY(const auto segment, KvSegment::create(model_->config(), KvType::kF16, 0, n_tokens));
  CELSLM_TRY(auto prefill, ContextPrefill::start(*engine, tokens, segment));
  while (!prefill.finished()) {
    if (stop.stop_requested()) return fail(ErrorKind::kCancelled, "the computation was stopped");
    CELSLM_CHECK_OK(prefill.advance());
  }
  return engine->foreign_state(*segment);
}

}  // namespace celslm
