// Shared by the tests of condense: keys, values and queries as if a text had topics.
#pragma once

#include <random>

#include "align/condense/head_attention.h"

namespace celslm::testing_support {

inline MatrixF random_matrix(Eigen::Index rows, Eigen::Index columns, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  MatrixF out(rows, columns);
  for (Eigen::Index i = 0; i < rows; ++i) {
    for (Eigen::Index j = 0; j < columns; ++j) out(i, j) = normal(random);
  }
  return out;
}

// 96 rows about 12 topics; queries about 8 of them. Row 0 is a sink: all queries see it.
struct Head {
  static constexpr int kRows = 96;
  static constexpr int kDim = 16;
  static constexpr float kScale = 0.25F;

  Head() : topics(2.0F * random_matrix(12, kDim, 1)), k(random_matrix(kRows, kDim, 2)), v(random_matrix(kRows, kDim, 3)) {
    for (int row = 0; row < kRows; ++row) {
      k.row(row) += topics.row(row % topics.rows());
      v.row(row) += topics.row((row + 5) % topics.rows());
    }
    k.row(0) = topics.colwise().sum() * 0.5F;
  }
  MatrixF queries(Eigen::Index n, std::uint64_t seed) const {
    MatrixF out = 1.5F * random_matrix(n, kDim, seed);
    for (Eigen::Index i = 0; i < n; ++i) out.row(i) += topics.row(i % 8);
    return out;
  }
  HeadAttention attention(Eigen::Index n_queries, std::uint64_t seed) const {
    return {k, v, queries(n_queries, seed), kScale};
  }

  MatrixF topics;
  MatrixF k;
  MatrixF v;
};

}  // namespace celslm::testing_support
