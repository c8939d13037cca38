#include "align/judge/kv_variant.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "align/map/apply.h"

namespace celslm {
namespace {

// Replaces each row by normally distributed values with the same Euclidean norm.
void randomise_rows(std::vector<float>& values, int n_columns, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  const auto width = static_cast<std::size_t>(n_columns);
  for (std::size_t first = 0; first < values.size(); first += width) {
    const std::span row(values.data() + first, width);
    double before = 0.0;
    double after = 0.0;
    for (float& value : row) {
      before += static_cast<double>(value) * value;
      value = normal(random);
      after += static_cast<double>(value) * value;
    }
    for (float& value : row) value *= static_cast<float>(std::sqrt(before / after));
  }
}

std::vector<float> copy_plane(const KvMap& map, const std::vector<float>& source, std::span<const int> pairs) {
  const auto width = static_cast<std::size_t>(map.source.kv_width());
  const auto d = static_cast<std::size_t>(map.target.head_dim);
  const auto kept = static_cast<std::size_t>(std::min(map.source.head_dim, map.target.head_dim));
  std::vector<float> out;
  out.reserve(pairs.size() * static_cast<std::size_t>(map.target.kv_width()));
  for (const int row : pairs) {
    for (int head = 0; head < map.target.n_kv_heads; ++head) {
      const auto from =
          static_cast<std::size_t>(head % map.source.n_kv_heads) * static_cast<std::size_t>(map.source.head_dim);
      const float* values = source.data() + static_cast<std::size_t>(row) * width + from;
      out.insert(out.end(), values, values + kept);
      out.insert(out.end(), d - kept, 0.0F);
    }
  }
  return out;
}

int nearest_layer(const KvMap& map, int target_layer) {
  if (map.target.n_layers == 1) return map.source.n_layers - 1;
  const double depth = static_cast<double>(target_layer) / (map.target.n_layers - 1);
  return static_cast<int>(std::lround(depth * (map.source.n_layers - 1)));
}

}  // namespace

const char* to_string(KvVariant variant) {
  switch (variant) {
    case KvVariant::kMapped: return "mapped";
    case KvVariant::kRawCopy: return "raw copy";
    case KvVariant::kRandom: return "random map";
  }
  return "unknown";
}

KvMap randomised(const KvMap& map) {
  std::mt19937_64 random(1);
  KvMap out = map;
  for (LayerMap& layer : out.layers) {
    for (PlaneMap* plane : {&layer.k, &layer.v}) {
      plane->net.reset();
      for (MapMatrix& m : plane->blocks) randomise_rows(m.left, m.rank == 0 ? m.n_out : m.rank, random);
    }
  }
  return out;
}

KvPlanes make_variant(KvVariant variant, const KvMap& map, const KvMap& random, const KvPlanes& source,
                      std::span<const int> pairs) {
  if (variant != KvVariant::kRawCopy) return map_planes(variant == KvVariant::kMapped ? map : random, source, pairs);
  KvPlanes out{.n_tokens = static_cast<int>(pairs.size())};
  for (int layer = 0; layer < map.target.n_layers; ++layer) {
    const auto nearest = static_cast<std::size_t>(nearest_layer(map, layer));
    out.k.push_back(copy_plane(map, source.k[nearest], pairs));
    out.v.push_back(copy_plane(map, source.v[nearest], pairs));
  }
  return out;
}

}  // namespace celslm
