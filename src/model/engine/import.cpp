#include <algorithm>
#include <cmath>

#include "model/engine/engine.h"
#include "model/engine/model_impl.h"
#include "model/kv/kv_rows.h"

namespace celslm {
namespace {

Status check_import(const Model& model, const KvSegment& segment, int layer) {
  const ModelConfig& config = model.config();
  if (model.foreign()) return fail(ErrorKind::kInvalid, "the layers of a model that libllama runs cannot be written");
  if (segment.n_layers() != config.n_layers || segment.n_kv_heads() != config.n_kv_heads ||
      segment.head_dim() != config.head_dim) {
    return fail(ErrorKind::kInvalid, "the segment is not of this model's shape");
  }
  if (layer < 0 || layer >= config.n_layers)
    return fail(ErrorKind::kInvalid, "layer {} of a model that has {}", layer, config.n_layers);
  return {};
}

// Of element (i, j) of an array [..][width].
std::size_t index(int i, int width, int j) {
  return static_cast<std::size_t>(i) * static_cast<std::size_t>(width) + static_cast<std::size_t>(j);
}

Status check_rows(const KvSegment& segment, int first_row, const CondensedRows& rows) {
  if (first_row < 0 || rows.n_rows < 1 || first_row > segment.capacity() - rows.n_rows) {
    return fail(ErrorKind::kInvalid, "{} rows from row {} of a segment of {}", rows.n_rows, first_row, segment.capacity());
  }
  const std::size_t n_places = static_cast<std::size_t>(rows.n_rows) * static_cast<std::size_t>(segment.n_kv_heads());
  const std::size_t n_values = n_places * static_cast<std::size_t>(segment.head_dim());
  const auto fits = [](std::size_t size, std::size_t expected) { return size == 0 || size == expected; };
  if (!fits(rows.k.size(), n_values) || !fits(rows.v.size(), n_values)) {
    return fail(ErrorKind::kInvalid, "{} and {} values of K and V, expected {}", rows.k.size(), rows.v.size(), n_values);
  }
  if (!fits(rows.positions.size(), n_places) || !fits(rows.log_mass.size(), n_places)) {
    return fail(ErrorKind::kInvalid, "{} positions and {} log masses, expected {}", rows.positions.size(),
                rows.log_mass.size(), n_places);
  }
  if (!rows.k.empty() && rows.positions.empty()) return fail(ErrorKind::kInvalid, "rows of K without positions");
  CELSLM_CHECK_OK(check_positions(rows.positions, segment.next_position()));
  return check_log_mass(rows.log_mass);
}

// Bias and rotation can make more of K than the type holds, though every value of a block fits.
std::unexpected<Error> too_large(const KvSegment& segment, int layer, int row, int head, bool k_fits) {
  return fail(ErrorKind::kInvalid, "layer {}, row {}, head {}: {} holds a value that {} cannot hold", layer, row, head,
              k_fits ? "V" : "K after its rotation", to_string(segment.type()));
}

}  // namespace

Status check_rows_only(const ModelConfig& config) {
  if (!config.has_states()) return {};
  return fail(ErrorKind::kInvalid,
              "{} has recurrent layers, which keep a state instead of rows: this needs rows of all layers", config.name);
}

// Rows of a condensed context stand for tokens from all over it: no window is known to hold them.
Status check_condensable(const ModelConfig& config) {
  CELSLM_CHECK_OK(check_rows_only(config));
  if (!config.has_windows()) return {};
  return fail(ErrorKind::kInvalid, "{} has layers with a sliding window: its contexts cannot be condensed", config.name);
}

Status Engine::import_rows(const Model& model, KvSegment& segment, int layer, int first_row, int n_tokens,
                           std::span<const float> k, std::span<const float> v) {
  const ModelConfig& config = model.config();
  const auto width = static_cast<std::size_t>(config.kv_width());
  CELSLM_CHECK_OK(check_import(model, segment, layer));
  if (!segment.has_rows(layer)) return fail(ErrorKind::kInvalid, "layer {} is recurrent and has no rows", layer);
  if (segment.condensed()) return fail(ErrorKind::kInvalid, "a condensed segment's rows need positions: import_condensed()");
  if (first_row < 0 || n_tokens < 0 || first_row > segment.capacity() - n_tokens) {
    return fail(ErrorKind::kInvalid, "rows [{}, {}) of a segment of {}", first_row, first_row + n_tokens,
                segment.capacity());
  }
  const std::size_t expected = width * static_cast<std::size_t>(n_tokens);
  if ((!k.empty() && k.size() != expected) || (!v.empty() && v.size() != expected)) {
    return fail(ErrorKind::kInvalid, "{} and {} values of K and V for {} tokens of {}", k.size(), v.size(), n_tokens, width);
  }
  const auto& [rope, angle_cache] = model.impl().rotation(layer);
  const Weights& weights = *model.impl().weights;
  const KvRows rows = rows_of(segment, layer, weights.k_bias(layer), weights.k_gain(layer));
  const auto d = static_cast<std::size_t>(config.head_dim);
  std::vector<float> scratch(key_scratch(config.head_dim));
  std::vector<float> far;
  for (int row = first_row; row < first_row + n_tokens; ++row) {
    const RopeAngles angles = k.empty() ? RopeAngles() : angle_cache->angles(segment.first_position() + row, far);
    for (int head = 0; head < config.n_kv_heads; ++head) {
      const std::size_t at = static_cast<std::size_t>(row - first_row) * width + static_cast<std::size_t>(head) * d;
      const bool k_fits = k.empty() || place_key(rows, *rope, head, row, k.data() + at, angles, scratch.data());
      const bool v_fits = v.empty() || store_value(rows, head, row, v.data() + at);
      if (!k_fits || !v_fits) return too_large(segment, layer, row, head, k_fits);
    }
  }
  segment.note_write(layer);
  return {};
}

Status Engine::import_state(const Model& model, KvSegment& segment, int layer, int n_rows, std::span<const float> state) {
  CELSLM_CHECK_OK(check_import(model, segment, layer));
  const std::span<float> to = segment.state(layer);
  if (to.empty() || state.size() != to.size())
    return fail(ErrorKind::kInvalid, "layer {}: {} values of a state, expected {}", layer, state.size(), to.size());
  if (n_rows < 0 || n_rows > segment.capacity())
    return fail(ErrorKind::kInvalid, "a state behind row {} of a segment of {}", n_rows, segment.capacity());
  if (!std::ranges::all_of(state, [](float value) { return std::isfinite(value); }))
    return fail(ErrorKind::kInvalid, "layer {}: the state holds infinity or NaN", layer);
  std::ranges::copy(state, to.begin());
  segment.set_state_rows(layer, n_rows);
  segment.note_write(layer);
  return {};
}

Status Engine::import_condensed(const Model& model, KvSegment& segment, int layer, int first_row,
                                const CondensedRows& rows) {
  CELSLM_CHECK_OK(check_import(model, segment, layer));
  CELSLM_CHECK_OK(check_condensable(model.config()));
  if (!segment.condensed()) return fail(ErrorKind::kInvalid, "a segment of one row per token takes rows by import_rows()");
  CELSLM_CHECK_OK(check_rows(segment, first_row, rows));
  const auto& [rope, angle_cache] = model.impl().rotation(layer);
  const Weights& weights = *model.impl().weights;
  const KvRows to = rows_of(segment, layer, weights.k_bias(layer), weights.k_gain(layer));
  std::vector<float> scratch(key_scratch(segment.head_dim()));
  std::vector<float> far;
  for (int head = 0; head < segment.n_kv_heads(); ++head) {
    const std::size_t place = index(head, rows.n_rows, 0);  // of the head's first row in positions and log_mass
    for (int row = 0; row < rows.n_rows; ++row) {
      const std::size_t at = index(row, segment.n_kv_heads(), head) * static_cast<std::size_t>(segment.head_dim());
      bool k_fits = true;
      if (!rows.k.empty()) {
        const RopeAngles angles = angle_cache->angles(rows.positions[place + static_cast<std::size_t>(row)], far);
        k_fits = place_key(to, *rope, head, first_row + row, rows.k.data() + at, angles, scratch.data());
      }
      const bool v_fits = rows.v.empty() || store_value(to, head, first_row + row, rows.v.data() + at);
      if (!k_fits || !v_fits) return too_large(segment, layer, first_row + row, head, k_fits);
    }
    if (rows.log_mass.empty()) continue;
    std::copy_n(rows.log_mass.data() + place, rows.n_rows,
                segment.log_mass(layer) + index(head, segment.capacity(), first_row));
  }
  segment.note_write(layer);
  return {};
}

Result<std::shared_ptr<KvSegment>> condensed_segment(const Model& model, KvType type, const CondensedKv& kv) {
  CELSLM_CHECK_OK(check_condensed(model.config(), kv));
  CELSLM_TRY(auto segment, KvSegment::create_condensed(model.config(), type, kv.n_rows, kv.n_tokens));
  for (int layer = 0; layer < model.config().n_layers; ++layer) {
    const CondensedLayer& from = kv.layers[static_cast<std::size_t>(layer)];
    CELSLM_CHECK_OK(Engine::import_condensed(
        model, *segment, layer, 0,
        {.n_rows = kv.n_rows, .k = from.k, .v = from.v, .positions = from.positions, .log_mass = from.log_mass}));
  }
  return segment;
}

}  // namespace celslm
