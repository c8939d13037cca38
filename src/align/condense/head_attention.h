// What a set of queries reads from one KV head of a context: the base of every figure that short KV is fitted to.
#pragma once

#include <optional>

#include "align/map/eigen.h"

namespace celslm {

// Softmax over one KV head's rows for given queries. Refers to the caller's memory while it is constructed only.
class HeadAttention {
 public:
  // k (after RoPE) and v: [n_rows][head_dim]; queries, after RoPE: [n_queries][head_dim]. At least one of each.
  HeadAttention(const MatrixF& k, const MatrixF& v, const MatrixF& queries, float scale);

  Eigen::Index n_rows() const { return weights_.cols(); }
  Eigen::Index n_queries() const { return weights_.rows(); }
  const MatrixF& values() const { return v_; }
  // exp(q.k scale) over its sum: [n_queries][n_rows], each row adds up to 1.
  const MatrixF& weights() const { return weights_; }
  // What the queries read: [n_queries][head_dim].
  const MatrixF& outputs() const { return outputs_; }
  // weights' * weights, [n_rows][n_rows]. Computed at the first call: n_queries * n_rows^2 multiplications.
  const MatrixF& gram() const;

 private:
  MatrixF v_;
  MatrixF weights_;
  MatrixF outputs_;
  mutable std::optional<MatrixF> gram_;
};

}  // namespace celslm
