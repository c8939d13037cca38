// KV of a model that libllama runs: a context's state, as libllama writes it.
#pragma once

#include <memory>

#include "model/engine/engine.h"
#include "model/engine/model.h"
#include "serve/cloud/kv_producer.h"

namespace celslm {

// Takes memory for a context's KV while it computes it.
class StateProducer final : public KvProducer {
 public:
  // model: one that libllama runs.
  StateProducer(std::shared_ptr<const Model> model, int n_threads);

  const HostedModel& model() const override { return hosted_; }
  Result<std::vector<Token>> tokens(std::string_view text) const override;
  // kInvalid: a state has no rows.
  Status produce(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows) override;
  Result<Bytes> produce_state(std::span<const Token> tokens, std::stop_token stop) override;

 private:
  const std::shared_ptr<const Model> model_;
  const int n_threads_;
  const HostedModel hosted_;
};

}  // namespace celslm
