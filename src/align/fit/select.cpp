#include "align/fit/select.h"

#include <algorithm>
#include <numeric>

#include "align/fit/ridge.h"

namespace celslm {
namespace {

// Places in PlaneData::source_layers.
using Places = std::vector<int>;

// Columns of x that feed target head `head`; -1: all heads.
std::vector<int> columns_of(const PlaneData& data, const Places& places, int head) {
  const int width = data.source.kv_width();
  const int first = head < 0 ? 0 : first_source_head(data.source, data.target, head) * data.source.head_dim;
  const int n = head < 0 ? width : source_heads(data.source, data.target) * data.source.head_dim;
  std::vector<int> out;
  for (const int place : places) {
    for (int i = 0; i < n; ++i) out.push_back(place * width + first + i);
  }
  return out;
}

// One solve for each target head, or one for all.
struct Part {
  std::vector<int> x_columns;
  int first_y = 0;
  int n_y = 0;
};

std::vector<Part> parts_of(const PlaneData& data, int target_layer, const Places& places, bool same_head) {
  const int width = data.target.kv_width();
  if (!same_head) return {{columns_of(data, places, -1), target_layer * width, width}};
  std::vector<Part> out;
  out.reserve(static_cast<std::size_t>(data.target.n_kv_heads));
  for (int head = 0; head < data.target.n_kv_heads; ++head) {
    out.push_back(
        {columns_of(data, places, head), target_layer * width + head * data.target.head_dim, data.target.head_dim});
  }
  return out;
}

double held_out_r2(const PlaneData& data, int target_layer, const Places& places, bool same_head, double lambda) {
  double error = 0.0;
  double total = 0.0;
  for (const Part& part : parts_of(data, target_layer, places, same_head)) {
    const LinearFit fit = fit_ridge(data.fit, part.x_columns, part.first_y, part.n_y, lambda);
    error += error_sum(data.held_out, part.x_columns, part.first_y, fit);
    total += total_sum(data.held_out, part.first_y, part.n_y);
  }
  return total > 0.0 ? 1.0 - error / total : 0.0;
}

struct Choice {
  Places places;
  double r2 = 0.0;
};

// The places that do best alone, best first.
Places best_alone(const PlaneData& data, int target_layer, bool same_head, const SelectOptions& options) {
  std::vector<std::pair<double, int>> ranked;
  ranked.reserve(data.source_layers.size());
  for (int place = 0; place < static_cast<int>(data.source_layers.size()); ++place) {
    ranked.emplace_back(-held_out_r2(data, target_layer, {place}, same_head, options.lambda), place);
  }
  std::ranges::sort(ranked);
  Places out;
  for (const auto& [r2, place] : ranked) out.push_back(place);
  if (out.size() > static_cast<std::size_t>(options.candidates)) out.resize(static_cast<std::size_t>(options.candidates));
  return out;
}

Choice choose(const PlaneData& data, int target_layer, bool same_head, const SelectOptions& options) {
  Places left = best_alone(data, target_layer, same_head, options);
  Choice best{.places = {left.front()}};
  best.r2 = held_out_r2(data, target_layer, best.places, same_head, options.lambda);
  left.erase(left.begin());
  while (!left.empty() && best.places.size() < static_cast<std::size_t>(options.max_sources)) {
    Choice next;
    for (const int place : left) {
      Choice tried{.places = best.places};
      tried.places.push_back(place);
      tried.r2 = held_out_r2(data, target_layer, tried.places, same_head, options.lambda);
      if (next.places.empty() || tried.r2 > next.r2) next = std::move(tried);
    }
    if (next.r2 < best.r2 + options.min_gain) break;
    best = std::move(next);
    std::erase(left, best.places.back());
  }
  return best;
}

std::vector<float> values_of(const MatrixD& m) {
  std::vector<float> out(static_cast<std::size_t>(m.size()));
  RowsF(out.data(), m.rows(), m.cols()) = m.cast<float>();
  return out;
}

// The part's matrix, whole or as two factors; `fit` becomes what it is then.
MapMatrix to_matrix(const Gram& gram, const Part& part, int rank, LinearFit& fit) {
  MapMatrix out{.n_in = static_cast<int>(fit.weight.rows()), .n_out = static_cast<int>(fit.weight.cols())};
  if (rank == 0 || rank >= std::min(out.n_in, out.n_out)) {
    out.left = values_of(fit.weight);
    return out;
  }
  const Factors factors = reduce_rank(fit, gram.xx(part.x_columns), rank);
  fit.weight = factors.left * factors.right;
  fit.bias = gram.y_mean(part.first_y, part.n_y) - fit.weight.transpose() * gram.x_mean(part.x_columns);
  out.rank = rank;
  out.left = values_of(factors.left);
  out.right = values_of(factors.right);
  return out;
}

// Solves and stores all parts of a choice; sets held_out_r2 to that of what is stored.
void solve(const PlaneData& data, int target_layer, const Places& places, const SelectOptions& options, PlaneMap& out) {
  double error = 0.0;
  double total = 0.0;
  for (const Part& part : parts_of(data, target_layer, places, out.same_head)) {
    LinearFit fit = fit_ridge(data.fit, part.x_columns, part.first_y, part.n_y, options.lambda);
    out.blocks.push_back(to_matrix(data.fit, part, options.rank, fit));
    for (const double value : fit.bias) out.bias.push_back(static_cast<float>(value));
    error += error_sum(data.held_out, part.x_columns, part.first_y, fit);
    total += total_sum(data.held_out, part.first_y, part.n_y);
  }
  out.held_out_r2 = total > 0.0 ? 1.0 - error / total : 0.0;
}

}  // namespace

PlaneMap fit_plane(const PlaneData& data, int target_layer, const SelectOptions& options) {
  const bool can_divide = source_heads(data.source, data.target) > 0;
  const bool same = options.same_head && can_divide;
  Choice chosen;
  PlaneMap out;
  if (same) {
    chosen = choose(data, target_layer, true, options);
    out.same_head = true;
  }
  if (options.all_heads || !same) {
    Choice all = choose(data, target_layer, false, options);
    if (!same || all.r2 > chosen.r2 + options.min_gain) {
      chosen = std::move(all);
      out.same_head = false;
    }
  }
  for (const int place : chosen.places) out.sources.push_back(data.source_layers[static_cast<std::size_t>(place)]);
  solve(data, target_layer, chosen.places, options, out);
  return out;
}

double linear_cka(const Gram& gram, const PlaneData& data, int source_index, int target_layer) {
  const int width = data.target.kv_width();
  const std::vector<int> columns = columns_of(data, {source_index}, -1);
  const double both = gram.xy(columns, target_layer * width, width).squaredNorm();
  const double apart = gram.xx(columns).norm() * gram.yy(target_layer * width, width).norm();
  return apart > 0.0 ? both / apart : 0.0;
}

}  // namespace celslm
