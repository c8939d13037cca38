#include "align/map/kv_planes.h"

#include "model/engine/prefill.h"

namespace celslm {

Result<ExactKv> compute_kv(Engine& engine, std::span<const Token> tokens, const std::stop_token& stop) {
  CELSLM_CHECK_OK(check_rows_only(engine.model().config()));
  ExactKv out{.planes = {.n_tokens = static_cast<int>(tokens.size())}};
  out.planes.k.resize(static_cast<std::size_t>(engine.model().config().n_layers));
  out.planes.v.resize(out.planes.k.size());
  CELSLM_TRY(auto segment, KvSegment::create(engine.model().config(), KvType::kF16, 0, out.planes.n_tokens));
  out.segment = segment;
  CELSLM_TRY(auto prefill, ContextPrefill::start(engine, tokens, segment));
  const auto tap = [&](int layer, int /*first_row*/, std::span<const float> k, std::span<const float> v) {
    const auto index = static_cast<std::size_t>(layer);
    out.planes.k[index].insert(out.planes.k[index].end(), k.begin(), k.end());
    out.planes.v[index].insert(out.planes.v[index].end(), v.begin(), v.end());
  };
  while (!prefill.finished()) {
    if (stop.stop_requested())
      return fail(ErrorKind::kCancelled, "the prefill was cancelled at layer {}", prefill.layers_done());
    CELSLM_CHECK_OK(prefill.advance(tap));
  }
  return out;
}

Result<std::shared_ptr<KvSegment>> make_segment(const Model& model, const KvPlanes& below, const KvPlanes& from, int split) {
  CELSLM_TRY(auto segment, KvSegment::create(model.config(), KvType::kF16, 0, below.n_tokens));
  for (int layer = 0; layer < model.config().n_layers; ++layer) {
    const KvPlanes& planes = layer < split ? below : from;
    const auto index = static_cast<std::size_t>(layer);
    CELSLM_CHECK_OK(Engine::import_rows(model, *segment, layer, 0, planes.n_tokens, planes.k[index], planes.v[index]));
  }
  segment->set_length(below.n_tokens);
  return segment;
}

}  // namespace celslm
