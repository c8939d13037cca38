#include "align/condense/row_choice.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

namespace celslm {
namespace {

// Rounds of coordinate descent after each row that pursuit adds; the masses are fitted again once all rows are chosen.
constexpr int kPursuitSweeps = 2;

std::vector<int> always_kept(int n, const RowChoice& choice) {
  std::vector<int> out;
  for (int row = 0; row < n; ++row) {
    if (row < choice.n_first || row >= n - choice.n_last) out.push_back(row);
  }
  return out;
}

// [n_rows]: a |v - o| of each row for each query, squared and summed over the queries.
Eigen::VectorXf effects(const HeadAttention& attention) {
  MatrixF distances = attention.outputs() * attention.values().transpose() * -2.0F;
  distances.colwise() += attention.outputs().rowwise().squaredNorm();
  distances.rowwise() += attention.values().rowwise().squaredNorm().transpose();
  return (attention.weights().array().square() * distances.array().max(0.0F)).colwise().sum().transpose();
}

Eigen::VectorXf ranks(const HeadAttention& attention, const RowChoice& choice) {
  switch (choice.rank) {
    case RowRank::kMostAttention: return attention.weights().colwise().maxCoeff().transpose();
    case RowRank::kEffect: return effects(attention);
    default: return attention.weights().array().square().colwise().sum().transpose();
  }
}

std::vector<int> best_ranked(const HeadAttention& attention, const RowChoice& choice, const std::vector<int>& kept) {
  Eigen::VectorXf rank = ranks(attention, choice);
  for (const int row : kept) rank(row) = std::numeric_limits<float>::infinity();
  std::vector<int> rows(static_cast<std::size_t>(attention.n_rows()));
  std::iota(rows.begin(), rows.end(), 0);
  std::ranges::stable_sort(rows, std::greater(), [&](int row) { return rank(row); });
  rows.resize(static_cast<std::size_t>(choice.n_rows));
  return rows;
}

std::vector<int> pursue(const HeadAttention& attention, const RowChoice& choice, const std::vector<int>& kept,
                        const MassOptions& masses) {
  MassFit fit(attention, masses);
  std::vector<bool> free(static_cast<std::size_t>(attention.n_rows()), true);
  const auto add = [&](int row) {
    fit.add(row);
    free[static_cast<std::size_t>(row)] = false;
  };
  for (const int row : kept) add(row);
  while (fit.rows().size() < static_cast<std::size_t>(choice.n_rows)) {
    fit.improve(kPursuitSweeps);
    int best = -1;
    for (int row = 0; row < attention.n_rows(); ++row) {
      if (free[static_cast<std::size_t>(row)] && (best < 0 || fit.residual()(row) > fit.residual()(best))) best = row;
    }
    add(best);
  }
  return {fit.rows().begin(), fit.rows().end()};
}

// Of the rows that are not kept anyway: as many as are wanted.
std::vector<int> without_queries(int n, const RowChoice& choice, std::vector<int> rows) {
  const int first = choice.n_first;
  const int n_between = n - static_cast<int>(rows.size());
  const int wanted = choice.n_rows - static_cast<int>(rows.size());
  std::vector<int> between(static_cast<std::size_t>(n_between));
  std::iota(between.begin(), between.end(), first);
  if (choice.rank == RowRank::kRandom) {
    std::mt19937_64 random(choice.seed);
    std::ranges::shuffle(between, random);
    rows.insert(rows.end(), between.begin(), between.begin() + wanted);
  } else {
    for (std::int64_t i = 0; i < wanted; ++i)
      rows.push_back(between[static_cast<std::size_t>((2 * i + 1) * n_between / (2 * wanted))]);
  }
  return rows;
}

}  // namespace

std::vector<int> choose_rows(const HeadAttention& attention, const RowChoice& choice, const MassOptions& masses) {
  const auto n = static_cast<int>(attention.n_rows());
  std::vector<int> rows = always_kept(n, choice);
  switch (choice.rank) {
    case RowRank::kPursuit: rows = pursue(attention, choice, rows, masses); break;
    case RowRank::kEvenly:
    case RowRank::kRandom: rows = without_queries(n, choice, std::move(rows)); break;
    default: rows = best_ranked(attention, choice, rows); break;
  }
  std::ranges::sort(rows);
  return rows;
}

}  // namespace celslm
