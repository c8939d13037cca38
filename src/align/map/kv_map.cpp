#include "align/map/kv_map.h"

#include <fmt/format.h>

#include <algorithm>

namespace celslm {
namespace {

Status check_number(const char* field, std::uint64_t value, std::uint64_t min, std::uint64_t max) {
  if (min <= value && value <= max) return {};
  return fail(ErrorKind::kInvalid, "{} is {}; expected {} to {}", field, value, min, max);
}

Status check_model(const char* side, const MapModel& model) {
  const auto named = [side](const Status& status) { return status ? Status() : wrap(status.error(), side); };
  CELSLM_CHECK_OK(named(check_number("n_layers", static_cast<std::uint64_t>(model.n_layers), 1, kMaxMapLayers)));
  CELSLM_CHECK_OK(named(check_number("n_kv_heads", static_cast<std::uint64_t>(model.n_kv_heads), 1, kMaxMapWidth)));
  CELSLM_CHECK_OK(named(check_number("head_dim", static_cast<std::uint64_t>(model.head_dim), 1, kMaxMapWidth)));
  const std::uint64_t width = static_cast<std::uint64_t>(model.n_kv_heads) * static_cast<std::uint64_t>(model.head_dim);
  return named(check_number("n_kv_heads * head_dim", width, 1, kMaxMapWidth));
}

Status check_layers(const char* field, const std::vector<int>& layers, std::size_t most, const MapModel& model) {
  CELSLM_CHECK_OK(check_number(field, layers.size(), 1, most));
  if (std::ranges::any_of(layers, [&](int layer) { return layer < 0 || layer >= model.n_layers; })) {
    return fail(ErrorKind::kInvalid, "{} contains a layer outside 0 to {}, the layers of the source model", field,
                model.n_layers - 1);
  }
  return {};
}

Status check_size(const char* field, std::size_t size, std::size_t expected) {
  if (size == expected) return {};
  return fail(ErrorKind::kInvalid, "{} has {} values; expected {}", field, size, expected);
}

Status check_matrix(const MapMatrix& m, int n_in, int n_out) {
  if (m.n_in != n_in || m.n_out != n_out) {
    return fail(ErrorKind::kInvalid, "a matrix is {} x {}; expected {} x {}", m.n_in, m.n_out, n_in, n_out);
  }
  CELSLM_CHECK_OK(
      check_number("rank", static_cast<std::uint64_t>(m.rank), 0, static_cast<std::uint64_t>(std::min(n_in, n_out))));
  const auto columns = static_cast<std::size_t>(m.rank == 0 ? n_out : m.rank);
  CELSLM_CHECK_OK(check_size("matrix", m.left.size(), static_cast<std::size_t>(n_in) * columns));
  return check_size("second factor", m.right.size(), static_cast<std::size_t>(m.rank) * static_cast<std::size_t>(n_out));
}

Status check_net(const ResidualNet& net, const KvMap& map) {
  CELSLM_CHECK_OK(check_layers("net.inputs", net.inputs, kMaxMapLayers, map.source));
  CELSLM_CHECK_OK(check_number("net.n_hidden", static_cast<std::uint64_t>(net.n_hidden), 1, kMaxNetHidden));
  const auto hidden = static_cast<std::size_t>(net.n_hidden);
  const auto width = static_cast<std::size_t>(map.target.kv_width());
  const std::size_t n_in = net.inputs.size() * 2 * static_cast<std::size_t>(map.source.kv_width());
  CELSLM_CHECK_OK(check_size("net.hidden", net.hidden.size(), n_in * hidden));
  CELSLM_CHECK_OK(check_size("net.hidden_bias", net.hidden_bias.size(), hidden));
  CELSLM_CHECK_OK(check_size("net.out", net.out.size(), hidden * width));
  CELSLM_CHECK_OK(check_size("net.out_bias", net.out_bias.size(), width));
  return check_size("net.gate", net.gate.size(), static_cast<std::size_t>(map.target.n_kv_heads));
}

Status check_plane(const PlaneMap& plane, const KvMap& map) {
  CELSLM_CHECK_OK(check_layers("sources", plane.sources, kMaxMapSources, map.source));
  const int heads = source_heads(map.source, map.target);
  if (plane.same_head && heads == 0)
    return fail(ErrorKind::kInvalid, "same_head is set, but neither head count divides the other");
  const int per_layer = plane.same_head ? heads * map.source.head_dim : map.source.kv_width();
  const int n_out = plane.same_head ? map.target.head_dim : map.target.kv_width();
  const auto n_blocks = static_cast<std::size_t>(plane.same_head ? map.target.n_kv_heads : 1);
  if (plane.blocks.size() != n_blocks) {
    return fail(ErrorKind::kInvalid, "{} matrices; expected {}", plane.blocks.size(), n_blocks);
  }
  for (const MapMatrix& m : plane.blocks) {
    CELSLM_CHECK_OK(check_matrix(m, static_cast<int>(plane.sources.size()) * per_layer, n_out));
  }
  CELSLM_CHECK_OK(check_size("bias", plane.bias.size(), static_cast<std::size_t>(map.target.kv_width())));
  return plane.net ? check_net(*plane.net, map) : Status();
}

Status check_gate(const Gate& gate, int n_layers) {
  if (gate.state > GateState::kRefused)
    return fail(ErrorKind::kInvalid, "gate.state is {}; expected 0 to 2", static_cast<int>(gate.state));
  CELSLM_CHECK_OK(
      check_number("gate.split", static_cast<std::uint64_t>(gate.split), 0, static_cast<std::uint64_t>(n_layers) - 1));
  CELSLM_CHECK_OK(check_number("gate.splits", gate.splits.size(), 0, static_cast<std::uint64_t>(n_layers) + 1));
  for (const SplitMetrics& s : gate.splits) {
    CELSLM_CHECK_OK(
        check_number("gate.splits.split", static_cast<std::uint64_t>(s.split), 0, static_cast<std::uint64_t>(n_layers)));
  }
  return {};
}

}  // namespace

MapModel map_model(const ModelFingerprint& fingerprint) {
  return {.id = fingerprint.id(),
          .tokenizer = fingerprint.tokenizer,
          .n_layers = static_cast<int>(fingerprint.n_layers),
          .n_kv_heads = static_cast<int>(fingerprint.n_kv_heads),
          .head_dim = static_cast<int>(fingerprint.head_dim)};
}

const char* to_string(MapPrecision precision) {
  switch (precision) {
    case MapPrecision::kF32: return "f32";
    case MapPrecision::kF16: return "f16";
    case MapPrecision::kQ8: return "q8";
  }
  return "unknown";
}

Result<MapPrecision> map_precision_from(std::string_view name) {
  for (const MapPrecision precision : {MapPrecision::kF32, MapPrecision::kF16, MapPrecision::kQ8}) {
    if (name == to_string(precision)) return precision;
  }
  return fail(ErrorKind::kInvalid, "unknown precision \"{}\"; expected f32, f16 or q8", name);
}

double SplitMetrics::retained() const {
  if (questions == 0) return 1.0;
  return native_right == 0 ? 0.0 : static_cast<double>(right) / native_right;
}

Gate judge_splits(std::vector<SplitMetrics> splits, const GateLimits& limits) {
  Gate out{.state = GateState::kRefused, .limits = limits, .splits = std::move(splits)};
  std::ranges::sort(out.splits, {}, &SplitMetrics::split);
  for (const SplitMetrics& s : out.splits) {
    if (s.retained() < limits.min_retained || !(s.kl <= limits.max_kl)) continue;
    out.state = GateState::kPassed;
    out.split = s.split;
    break;
  }
  return out;
}

std::string describe(const Gate& gate) {
  if (gate.state == GateState::kNotJudged) return "not judged yet: run `celslm align report MAP --write-gate`";
  std::string out = gate.state == GateState::kPassed ? fmt::format("passed from layer {} on", gate.split) : "refused";
  out += fmt::format(" (limits: {:.1f} % of native answers, {:.3g} nats;", 100.0 * gate.limits.min_retained,
                     gate.limits.max_kl);
  for (const SplitMetrics& s : gate.splits) {
    out += fmt::format(" split {}: {} of {} correct, {} native, {:.3g} nats;", s.split, s.right, s.questions, s.native_right,
                       s.kl);
  }
  out.back() = ')';
  return out;
}

bool KvMap::fused() const {
  return std::ranges::any_of(layers, [](const LayerMap& layer) { return layer.k.net || layer.v.net; });
}

int source_heads(const MapModel& source, const MapModel& target) {
  if (source.n_kv_heads % target.n_kv_heads == 0) return source.n_kv_heads / target.n_kv_heads;
  return target.n_kv_heads % source.n_kv_heads == 0 ? 1 : 0;
}

int first_source_head(const MapModel& source, const MapModel& target, int target_head) {
  return target_head * source.n_kv_heads / target.n_kv_heads;
}

Status check_map(const KvMap& map) {
  CELSLM_CHECK_OK(check_model("source", map.source));
  CELSLM_CHECK_OK(check_model("target", map.target));
  if (map.layers.size() != static_cast<std::size_t>(map.target.n_layers)) {
    return fail(ErrorKind::kInvalid, "the map has {} layers, but the target model has {}", map.layers.size(),
                map.target.n_layers);
  }
  CELSLM_CHECK_OK(check_number("calibration", map.calibration.size(), 0, kMaxMapDocuments));
  CELSLM_CHECK_OK(check_gate(map.gate, map.target.n_layers));
  for (std::size_t i = 0; i < map.layers.size(); ++i) {
    for (const auto& [name, plane] : {std::pair{"K", &map.layers[i].k}, {"V", &map.layers[i].v}}) {
      if (const Status good = check_plane(*plane, map); !good)
        return wrap(good.error(), fmt::format("layer {}, {}", i, name));
    }
  }
  return {};
}

MapCost map_cost(const KvMap& map, int first_layer) {
  MapCost out;
  const auto add = [&](std::size_t values) {
    out.multiplications += values;
    out.bytes += map.precision == MapPrecision::kF32   ? 4 * values
                 : map.precision == MapPrecision::kF16 ? 2 * values
                                                       : values * 17 / 16;
  };
  for (std::size_t i = static_cast<std::size_t>(first_layer); i < map.layers.size(); ++i) {
    for (const PlaneMap* plane : {&map.layers[i].k, &map.layers[i].v}) {
      for (const MapMatrix& m : plane->blocks) add(m.values());
      if (plane->net) add(plane->net->hidden.size() + plane->net->out.size());
    }
  }
  return out;
}

std::string describe(const KvMap& map) {
  const MapCost cost = map_cost(map, 0);
  return fmt::format("{:.2f} MB of {}, {:.2f} million multiplications per token to apply; {}",
                     static_cast<double>(cost.bytes) / 1e6, to_string(map.precision),
                     static_cast<double>(cost.multiplications) / 1e6, describe(map.gate));
}

}  // namespace celslm
