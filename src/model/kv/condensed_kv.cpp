#include "model/kv/condensed_kv.h"

#include <algorithm>
#include <cmath>

namespace celslm {
namespace {

bool all_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float v) { return std::isfinite(v); });
}

Status check_layer(const ModelConfig& config, const CondensedLayer& layer, int n_rows, int n_tokens) {
  const std::size_t n_values = static_cast<std::size_t>(n_rows) * static_cast<std::size_t>(config.kv_width());
  const std::size_t n_places = static_cast<std::size_t>(n_rows) * static_cast<std::size_t>(config.n_kv_heads);
  if (layer.k.size() != n_values || layer.v.size() != n_values)
    return fail(ErrorKind::kInvalid, "{} and {} values of K and V, expected {}", layer.k.size(), layer.v.size(), n_values);
  if (layer.positions.size() != n_places || layer.log_mass.size() != n_places) {
    return fail(ErrorKind::kInvalid, "{} positions and {} log masses, expected {}", layer.positions.size(),
                layer.log_mass.size(), n_places);
  }
  CELSLM_CHECK_OK(check_positions(layer.positions, n_tokens));
  CELSLM_CHECK_OK(check_log_mass(layer.log_mass));
  if (!all_finite(layer.k) || !all_finite(layer.v)) return fail(ErrorKind::kInvalid, "a value of K or V is not finite");
  return {};
}

}  // namespace

Status check_positions(std::span<const std::int32_t> positions, int n_tokens) {
  const auto bad = std::ranges::find_if(positions, [&](std::int32_t p) { return p < 0 || p >= n_tokens; });
  if (bad == positions.end()) return {};
  return fail(ErrorKind::kInvalid, "position {} at index {}, expected 0 to {}", *bad, bad - positions.begin(), n_tokens - 1);
}

Status check_log_mass(std::span<const float> log_mass) {
  const auto bad = std::ranges::find_if(log_mass, [](float m) { return !(std::abs(m) <= kMaxLogMass); });
  if (bad == log_mass.end()) return {};
  return fail(ErrorKind::kInvalid, "log mass {} at index {}, expected {} to {}", *bad, bad - log_mass.begin(), -kMaxLogMass,
              kMaxLogMass);
}

Status check_condensed(const ModelConfig& config, const CondensedKv& kv) {
  if (kv.n_rows < 1 || kv.n_rows > kv.n_tokens)
    return fail(ErrorKind::kInvalid, "{} rows for {} tokens; 1 row to as many as tokens are accepted", kv.n_rows,
                kv.n_tokens);
  if (kv.layers.size() != static_cast<std::size_t>(config.n_layers))
    return fail(ErrorKind::kInvalid, "{} layers for a model that has {}", kv.layers.size(), config.n_layers);
  for (std::size_t i = 0; i < kv.layers.size(); ++i) {
    const Status status = check_layer(config, kv.layers[i], kv.n_rows, kv.n_tokens);
    if (!status) return fail(ErrorKind::kInvalid, "layer {}: {}", i, status.error().message);
  }
  return {};
}

}  // namespace celslm
