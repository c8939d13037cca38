// How many rows of the full KV each chosen row stands for, so that queries give the chosen rows as much attention in all
// as they gave the full KV.
#pragma once

#include <span>
#include <vector>

#include "align/condense/head_attention.h"

namespace celslm {

struct MassOptions {
  double least = 0.0497870684;  // e^-3: a row below it would be one that costs memory for nothing
  double most = 20.0855369;     // e^3: more than so much rests on few queries
  double ridge = 1e-3;          // toward a mass of 1, relative to the mean diagonal of the chosen rows' Gram matrix
  int sweeps = 100;             // at most
};

// Bounded least squares over masses w of chosen rows: |A w - 1|^2 + ridge |w - 1|^2, where A are the attention weights of
// the full KV, so that an error is relative to each query's sum over all rows. By coordinate descent, which needs products
// of A only. The mass of a row that was just added is 1.
class MassFit {
 public:
  MassFit(const HeadAttention& attention, const MassOptions& options);

  void add(int row);
  // Up to `sweeps` over all chosen rows, until no mass moves by more than 1e-4 of itself.
  void improve(int sweeps);

  // A' (1 - A w): how well each of the n_rows rows explains the mass that is missing.
  const Eigen::VectorXf& residual() const { return residual_; }
  std::span<const int> rows() const { return rows_; }
  std::span<const double> masses() const { return masses_; }  // of rows(), in that order

 private:
  bool improve_row(std::size_t i);

  const MatrixF& gram_;
  const MassOptions options_;
  double penalty_ = 0.0;
  double diagonal_ = 0.0;  // sum over the chosen rows
  Eigen::VectorXf residual_;
  std::vector<int> rows_;
  std::vector<double> masses_;
};

}  // namespace celslm
