#include "align/exact_kv.h"

#include "model/prefill.h"

namespace celslm {

Result<ExactKv> compute_kv(Engine& engine, std::span<const Token> tokens) {
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
  while (!prefill.finished()) CELSLM_CHECK_OK(prefill.advance(tap));
  return out;
}

Result<std::shared_ptr<KvSegment>> make_segment(const Model& model, const KvPlanes& planes) {
  const auto n_layers = static_cast<std::size_t>(model.config().n_layers);
  if (planes.k.size() != n_layers || planes.v.size() != n_layers) {
    return fail(ErrorKind::kInvalid, "KV of {} layers for a model of {}", planes.k.size(), n_layers);
  }
  CELSLM_TRY(auto segment, KvSegment::create(model.config(), KvType::kF16, 0, planes.n_tokens));
  for (std::size_t layer = 0; layer < n_layers; ++layer) {
    CELSLM_CHECK_OK(
        Engine::import_rows(model, *segment, static_cast<int>(layer), 0, planes.n_tokens, planes.k[layer], planes.v[layer]));
  }
  segment->set_length(planes.n_tokens);
  return segment;
}

}  // namespace celslm
