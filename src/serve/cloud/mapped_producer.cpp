#include "serve/cloud/mapped_producer.h"

#include <algorithm>

#include "align/map/apply.h"
#include "align/map/attention_similarity.h"
#include "align/map/index_range.h"
#include "align/map/kv_planes.h"
#include "model/engine/prefill.h"
#include "model/kv/kv_rows.h"
#include "model/text/context_room.h"

namespace celslm {
namespace {

std::unexpected<Error> stopped() {
  return fail(ErrorKind::kCancelled, "the computation was stopped");
}

}  // namespace

Result<std::unique_ptr<MappedProducer>> MappedProducer::create(std::shared_ptr<const Model> source,
                                                               std::shared_ptr<const Model> target, KvMap map,
                                                               const MappedOptions& options) {
  CELSLM_CHECK_OK(check_models(map, *source, *target));
  CELSLM_CHECK_OK(check_gate(map));
  if (map.source.tokenizer != map.target.tokenizer) {
    return fail(ErrorKind::kMismatch, "{} and {} have different tokenizers; maps between such models are not served yet",
                source->config().name, target->config().name);
  }
  CELSLM_TRY(auto large, Engine::create(std::move(source), options.engine));
  CELSLM_TRY(auto small, Engine::create(target, options.engine));
  return std::unique_ptr<MappedProducer>(
      new MappedProducer(std::move(target), std::move(large), std::move(small), std::move(map), options.least_cosine));
}

MappedProducer::MappedProducer(std::shared_ptr<const Model> target, std::unique_ptr<Engine> large,
                               std::unique_ptr<Engine> small, KvMap map, double least_cosine)
    : target_(std::move(target)),
      large_(std::move(large)),
      small_(std::move(small)),
      map_(std::move(map)),
      least_cosine_(least_cosine),
      hosted_{.name = target_->config().name,
              .n_ctx = target_->config().n_ctx_train,
              .fingerprint = target_->fingerprint(),
              .map = HostedMap{.id = map_.id, .split = map_.gate.split, .fused = map_.fused()}} {}

Result<std::vector<Token>> MappedProducer::tokens(std::string_view text) const {
  return context_with_room(target_->text(), text, target_->config().n_ctx_train);
}

Status MappedProducer::produce(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows) {
  CELSLM_CHECK_OK(check_beginning(tokens));
  CELSLM_CHECK_OK(produce_native(tokens, type, stop, on_rows));
  return produce_mapped(tokens, type, stop, on_rows);
}

// A context too short to be checked is soon computed natively where the answers are not good enough.
Status MappedProducer::check_beginning(std::span<const Token> tokens) {
  CELSLM_TRY(const std::optional<double> similarity, similarity_at_beginning(map_, *large_, *small_, tokens));
  if (similarity.value_or(1.0) >= least_cosine_) return {};
  return fail(
      ErrorKind::kMismatch,
      "the map does not suit this context: over its first {} tokens the cosine between attention outputs with mapped "
      "and with native KV is {:.3f}, less than {:.3f}",
      kSimilarityContext, *similarity, least_cosine_);
}

Status MappedProducer::produce_native(std::span<const Token> tokens, KvType type, std::stop_token stop,
                                      const OnRows& on_rows) {
  if (map_.gate.split == 0) return {};
  CELSLM_TRY(auto segment, KvSegment::create(target_->config(), type, 0, static_cast<int>(tokens.size())));
  CELSLM_TRY(auto prefill, ContextPrefill::start(*small_, tokens, std::move(segment)));
  Status shown;  // the tap cannot return an error through the engine
  const auto tap = [&](int layer, int row, auto k, auto v) { shown = on_rows(layer, row, k, v); };
  while (prefill.layers_done() < map_.gate.split) {
    if (stop.stop_requested()) return stopped();
    CELSLM_CHECK_OK(prefill.advance(tap));
    if (!shown) return shown;
  }
  return {};
}

Status MappedProducer::produce_mapped(std::span<const Token> tokens, KvType type, std::stop_token stop,
                                      const OnRows& on_rows) {
  CELSLM_TRY(const ExactKv source, compute_kv(*large_, tokens, stop));
  const std::vector<int> pairs = index_range(static_cast<int>(tokens.size()));
  for (int layer = map_.gate.split; layer < map_.target.n_layers; ++layer) {
    if (stop.stop_requested()) return stopped();
    std::vector<float> k = map_plane(map_, layer, BlockKind::kKey, source.planes, pairs);
    std::vector<float> v = map_plane(map_, layer, BlockKind::kValue, source.planes, pairs);
    round_values(type, k, k.data());
    round_values(type, v, v.data());
    CELSLM_CHECK_OK(on_rows(layer, 0, k, v));
  }
  return {};
}

}  // namespace celslm
