#include "model/kv/kv_tuning.h"

#include <cmath>

#include "model/kv/kv_rows.h"

namespace celslm {
namespace {

// Magnitudes from here on become infinite.
float range_of(KvType type) {
  return type == KvType::kF16 || type == KvType::kQ8 ? 65520.0F : 3.39e38F;
}

Status tune_plane(const KvTuning& tuning, int layer, KvType type, const std::vector<float>& constants, const char* name,
                  std::span<float> rows) {
  const auto width = static_cast<std::size_t>(tuning.kv_width);
  const std::span<const float> of_layer = std::span(constants).subspan(static_cast<std::size_t>(layer) * width, width);
  const float range = range_of(type);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] += of_layer[i % width];
    if (std::abs(rows[i]) < range) continue;
    return fail(ErrorKind::kInvalid,
                "the tuning makes channel {} of {} in layer {} {}, which {} cannot hold: train with smaller constants, or "
                "use bf16",
                i % width, name, layer, rows[i], to_string(type));
  }
  round_values(type, rows, rows.data());
  return {};
}

}  // namespace

Status check_shape(const KvTuning& tuning, const ModelConfig& model) {
  if (model.has_states())
    return fail(ErrorKind::kMismatch, "{} has recurrent layers, to whose states no constants can be added", model.name);
  if (tuning.n_layers == model.n_layers && tuning.kv_width == model.kv_width()) return {};
  return fail(ErrorKind::kMismatch, "the tuning is for {} layers of {} values, the model has {} of {}", tuning.n_layers,
              tuning.kv_width, model.n_layers, model.kv_width());
}

Status tune_rows(const KvTuning& tuning, int layer, KvType type, std::span<float> k, std::span<float> v) {
  CELSLM_CHECK_OK(tune_plane(tuning, layer, type, tuning.k, "K", k));
  return tune_plane(tuning, layer, type, tuning.v, "V", v);
}

}  // namespace celslm
