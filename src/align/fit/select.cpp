#include "align/fit/select.h"

#include <algorithm>
#include <numeric>

#include "align/fit/ridge.h"

namespace celslm {
namespace {

// Indices into PlaneData::source_layers.
using Indices = std::vector<int>;

// Columns of x that target head `head` is computed from; -1: all heads.
std::vector<int> columns_of(const PlaneData& data, const Indices& indices, int head) {
  const int width = data.source.kv_width();
  const int first = head < 0 ? 0 : first_source_head(data.source, data.target, head) * data.source.head_dim;
  const int n = head < 0 ? width : source_heads(data.source, data.target) * data.source.head_dim;
  std::vector<int> out;
  for (const int index : indices) {
    for (int i = 0; i < n; ++i) out.push_back(index * width + first + i);
  }
  return out;
}

// One least-squares problem: the columns of one target head, or of all.
struct Problem {
  std::vector<int> x_columns;
  int first_y = 0;
  int n_y = 0;
};

std::vector<Problem> problems_of(const PlaneData& data, int target_layer, const Indices& indices, bool same_head) {
  const int width = data.target.kv_width();
  if (!same_head) return {{columns_of(data, indices, -1), target_layer * width, width}};
  std::vector<Problem> out;
  out.reserve(static_cast<std::size_t>(data.target.n_kv_heads));
  for (int head = 0; head < data.target.n_kv_heads; ++head) {
    out.push_back(
        {columns_of(data, indices, head), target_layer * width + head * data.target.head_dim, data.target.head_dim});
  }
  return out;
}

double held_out_r2(const PlaneData& data, int target_layer, const Indices& indices, bool same_head, double lambda) {
  double error = 0.0;
  double total = 0.0;
  for (const Problem& problem : problems_of(data, target_layer, indices, same_head)) {
    const LinearFit fit = fit_ridge(data.fit, problem.x_columns, problem.first_y, problem.n_y, lambda);
    error += error_sum(data.held_out, problem.x_columns, problem.first_y, fit);
    total += total_sum(data.held_out, problem.first_y, problem.n_y);
  }
  return total > 0.0 ? 1.0 - error / total : 0.0;
}

struct Choice {
  Indices indices;
  double r2 = 0.0;
};

// The candidates: the layers with the best R^2 alone, best first.
Indices rank_candidates(const PlaneData& data, int target_layer, bool same_head, const SelectOptions& options) {
  std::vector<std::pair<double, int>> ranked;
  ranked.reserve(data.source_layers.size());
  for (int index = 0; index < static_cast<int>(data.source_layers.size()); ++index) {
    ranked.emplace_back(-held_out_r2(data, target_layer, {index}, same_head, options.lambda), index);
  }
  std::ranges::sort(ranked);
  Indices out;
  for (const auto& [r2, index] : ranked) out.push_back(index);
  if (out.size() > static_cast<std::size_t>(options.candidates)) out.resize(static_cast<std::size_t>(options.candidates));
  return out;
}

Choice choose(const PlaneData& data, int target_layer, bool same_head, const SelectOptions& options) {
  Indices left = rank_candidates(data, target_layer, same_head, options);
  Choice best{.indices = {left.front()}};
  best.r2 = held_out_r2(data, target_layer, best.indices, same_head, options.lambda);
  left.erase(left.begin());
  while (!left.empty() && best.indices.size() < static_cast<std::size_t>(options.max_sources)) {
    Choice next;
    for (const int index : left) {
      Choice tried{.indices = best.indices};
      tried.indices.push_back(index);
      tried.r2 = held_out_r2(data, target_layer, tried.indices, same_head, options.lambda);
      if (next.indices.empty() || tried.r2 > next.r2) next = std::move(tried);
    }
    if (next.r2 < best.r2 + options.min_gain) break;
    best = std::move(next);
    std::erase(left, best.indices.back());
  }
  return best;
}

std::vector<float> values_of(const MatrixD& m) {
  std::vector<float> out(static_cast<std::size_t>(m.size()));
  RowsF(out.data(), m.rows(), m.cols()) = m.cast<float>();
  return out;
}

// The matrix of a problem, full or as two factors; `fit` is updated to what is stored.
MapMatrix to_matrix(const Gram& gram, const Problem& problem, int rank, LinearFit& fit) {
  MapMatrix out{.n_in = static_cast<int>(fit.weight.rows()), .n_out = static_cast<int>(fit.weight.cols())};
  if (rank == 0 || rank >= std::min(out.n_in, out.n_out)) {
    out.left = values_of(fit.weight);
    return out;
  }
  const Factors factors = reduce_rank(fit, gram.xx(problem.x_columns), rank);
  fit.weight = factors.left * factors.right;
  fit.bias = gram.y_mean(problem.first_y, problem.n_y) - fit.weight.transpose() * gram.x_mean(problem.x_columns);
  out.rank = rank;
  out.left = values_of(factors.left);
  out.right = values_of(factors.right);
  return out;
}

// Solves and stores all problems of a choice; sets held_out_r2 to that of the stored matrices.
void solve(const PlaneData& data, int target_layer, const Indices& indices, const SelectOptions& options, PlaneMap& out) {
  double error = 0.0;
  double total = 0.0;
  for (const Problem& problem : problems_of(data, target_layer, indices, out.same_head)) {
    LinearFit fit = fit_ridge(data.fit, problem.x_columns, problem.first_y, problem.n_y, options.lambda);
    out.blocks.push_back(to_matrix(data.fit, problem, options.rank, fit));
    for (const double value : fit.bias) out.bias.push_back(static_cast<float>(value));
    error += error_sum(data.held_out, problem.x_columns, problem.first_y, fit);
    total += total_sum(data.held_out, problem.first_y, problem.n_y);
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
  for (const int index : chosen.indices) out.sources.push_back(data.source_layers[static_cast<std::size_t>(index)]);
  solve(data, target_layer, chosen.indices, options, out);
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
