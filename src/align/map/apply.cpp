#include "align/map/apply.h"

#include <algorithm>
#include <cmath>

#include "align/map/eigen.h"

namespace celslm {
namespace {

constexpr std::size_t kRows = 256;  // per batch, so that the gathered inputs stay in cache

// Columns [first, first + n) of one layer's plane.
struct Columns {
  const std::vector<float>* plane = nullptr;  // [n_tokens][width]
  std::size_t first = 0;
  std::size_t n = 0;
};

// Rows `at` of the given columns of several planes, concatenated: [at.size()][sum of part widths].
MatrixF gather(std::span<const Columns> parts, std::size_t width, std::span<const int> at) {
  std::size_t n_columns = 0;
  for (const Columns& part : parts) n_columns += part.n;
  MatrixF out(static_cast<Eigen::Index>(at.size()), static_cast<Eigen::Index>(n_columns));
  float* to = out.data();
  for (const int row : at) {
    for (const Columns& part : parts) {
      to = std::copy_n(part.plane->data() + static_cast<std::size_t>(row) * width + part.first, part.n, to);
    }
  }
  return out;
}

ConstRowsF rows_of(const std::vector<float>& values, int n_columns) {
  return {values.data(), static_cast<Eigen::Index>(values.size()) / n_columns, n_columns};
}

Eigen::Map<const Eigen::RowVectorXf> row_of(const std::vector<float>& values) {
  return {values.data(), static_cast<Eigen::Index>(values.size())};
}

MatrixF multiply(const MatrixF& x, const MapMatrix& m) {
  if (m.rank == 0) return x * rows_of(m.left, m.n_out);
  const MatrixF low = x * rows_of(m.left, m.rank);
  return low * rows_of(m.right, m.n_out);
}

// Computes rows of one target plane.
class PlaneMapper {
 public:
  PlaneMapper(const KvMap& map, const PlaneMap& plane, const std::vector<std::vector<float>>& source, const KvPlanes& all)
      : map_(map), plane_(plane), source_(source), all_(all), width_(static_cast<std::size_t>(map.source.kv_width())) {}

  void run(std::span<const int> at, Eigen::Ref<MatrixF> out) const {
    if (plane_.same_head) {
      const auto d = map_.target.head_dim;
      for (int head = 0; head < map_.target.n_kv_heads; ++head) {
        out.middleCols(head * d, d) = multiply(inputs(head, at), plane_.blocks[static_cast<std::size_t>(head)]);
      }
    } else {
      out = multiply(inputs(-1, at), plane_.blocks.front());
    }
    out.rowwise() += row_of(plane_.bias);
    if (plane_.net) out += correction(*plane_.net, at);
  }

 private:
  MatrixF inputs(int head, std::span<const int> at) const {
    const auto d = static_cast<std::size_t>(map_.source.head_dim);
    const std::size_t first = head < 0 ? 0 : static_cast<std::size_t>(first_source_head(map_.source, map_.target, head)) * d;
    const std::size_t n = head < 0 ? width_ : static_cast<std::size_t>(source_heads(map_.source, map_.target)) * d;
    std::vector<Columns> parts;
    parts.reserve(plane_.sources.size());
    for (const int layer : plane_.sources) parts.push_back({&source_[static_cast<std::size_t>(layer)], first, n});
    return gather(parts, width_, at);
  }

  MatrixF correction(const ResidualNet& net, std::span<const int> at) const {
    std::vector<Columns> parts;
    for (const int layer : net.inputs) {
      parts.push_back({&all_.k[static_cast<std::size_t>(layer)], 0, width_});
      parts.push_back({&all_.v[static_cast<std::size_t>(layer)], 0, width_});
    }
    MatrixF hidden = gather(parts, width_, at) * rows_of(net.hidden, net.n_hidden);
    hidden.rowwise() += row_of(net.hidden_bias);
    hidden = hidden.unaryExpr([](float x) { return x / (1.0F + std::exp(-x)); });
    MatrixF out = hidden * rows_of(net.out, map_.target.kv_width());
    out.rowwise() += row_of(net.out_bias);
    for (int head = 0; head < map_.target.n_kv_heads; ++head) {
      out.middleCols(head * map_.target.head_dim, map_.target.head_dim) *= net.gate[static_cast<std::size_t>(head)];
    }
    return out;
  }

  const KvMap& map_;
  const PlaneMap& plane_;
  const std::vector<std::vector<float>>& source_;  // K, or V
  const KvPlanes& all_;
  const std::size_t width_;
};

Status check_side(const char* side, const MapModel& expected, const ModelFingerprint& model) {
  const MapModel found = map_model(model);
  if (found == expected) return {};
  return fail(
      ErrorKind::kMismatch,
      "the map's {} is model {} ({} layers, {} KV heads of {} values), but the given model is {} ({} layers, {} KV heads of "
      "{} values); a map works only with the exact weights that it was fitted for",
      side, expected.id.hex().substr(0, 12), expected.n_layers, expected.n_kv_heads, expected.head_dim,
      found.id.hex().substr(0, 12), found.n_layers, found.n_kv_heads, found.head_dim);
}

}  // namespace

Status check_models(const KvMap& map, const Model& source, const Model& target) {
  CELSLM_CHECK_OK(check_side("source", map.source, source.fingerprint()));
  CELSLM_CHECK_OK(check_side("target", map.target, target.fingerprint()));
  for (const auto& [side, model] : {std::pair{"source", &source}, {"target", &target}}) {
    if (map.version == 1 && model->config().key_bias)
      return fail(ErrorKind::kMismatch,
                  "the map is of version 1, in which K contained the bias of its {} model; fit it again with this program",
                  side);
  }
  return {};
}

Status check_gate(const KvMap& map) {
  if (map.gate.state == GateState::kPassed) return {};
  return fail(ErrorKind::kMismatch, "the map cannot be used: {}", describe(map.gate));
}

std::vector<float> map_plane(const KvMap& map, int target_layer, BlockKind kind, const KvPlanes& source,
                             std::span<const int> pairs) {
  const LayerMap& layer = map.layers[static_cast<std::size_t>(target_layer)];
  const bool key = kind == BlockKind::kKey;
  const PlaneMapper mapper(map, key ? layer.k : layer.v, key ? source.k : source.v, source);
  const int width = map.target.kv_width();
  std::vector<float> out(pairs.size() * static_cast<std::size_t>(width));
  for (std::size_t first = 0; first < pairs.size(); first += kRows) {
    const std::size_t n = std::min(kRows, pairs.size() - first);
    mapper.run(pairs.subspan(first, n),
               RowsF(out.data() + first * static_cast<std::size_t>(width), static_cast<Eigen::Index>(n), width));
  }
  return out;
}

KvPlanes map_planes(const KvMap& map, const KvPlanes& source, std::span<const int> pairs) {
  KvPlanes out{.n_tokens = static_cast<int>(pairs.size())};
  for (int layer = 0; layer < map.target.n_layers; ++layer) {
    out.k.push_back(map_plane(map, layer, BlockKind::kKey, source, pairs));
    out.v.push_back(map_plane(map, layer, BlockKind::kValue, source, pairs));
  }
  return out;
}

}  // namespace celslm
