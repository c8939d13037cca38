#include "align/condense/head_attention.h"

namespace celslm {

HeadAttention::HeadAttention(const MatrixF& k, const MatrixF& v, const MatrixF& queries, float scale) : v_(v) {
  weights_.noalias() = queries * k.transpose();
  weights_ *= scale;
  weights_.colwise() -= weights_.rowwise().maxCoeff().eval();
  weights_ = weights_.array().exp().matrix();
  weights_.array().colwise() /= weights_.rowwise().sum().array().eval();
  outputs_.noalias() = weights_ * v_;
}

const MatrixF& HeadAttention::gram() const {
  if (!gram_) {
    MatrixF lower = MatrixF::Zero(n_rows(), n_rows());
    lower.selfadjointView<Eigen::Lower>().rankUpdate(weights_.transpose());
    gram_ = lower.selfadjointView<Eigen::Lower>();
  }
  return *gram_;
}

}  // namespace celslm
