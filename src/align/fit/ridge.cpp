#include "align/fit/ridge.h"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

namespace celslm {

LinearFit fit_ridge(const Gram& gram, std::span<const int> x_columns, int first_y, int n_y, double lambda) {
  MatrixD xx = gram.xx(x_columns);
  const double mean = xx.trace() / static_cast<double>(xx.rows());
  // If all columns are constant, X'X and X'Y are zero: any penalty makes the solve regular and the weights zero.
  xx.diagonal().array() += mean > 0.0 ? lambda * mean : 1.0;
  LinearFit out;
  out.weight = Eigen::LLT<Eigen::Ref<MatrixD>, Eigen::Lower>(xx).solve(gram.xy(x_columns, first_y, n_y));
  out.bias = gram.y_mean(first_y, n_y) - out.weight.transpose() * gram.x_mean(x_columns);
  return out;
}

Factors reduce_rank(const LinearFit& fit, const MatrixD& xx, int rank) {
  const MatrixD predictions = fit.weight.transpose() * xx * fit.weight;
  const Eigen::SelfAdjointEigenSolver<MatrixD> solver(predictions);  // eigenvalues ascend
  const MatrixD directions = solver.eigenvectors().rightCols(rank);
  return {.left = fit.weight * directions, .right = directions.transpose()};
}

double error_sum(const Gram& gram, std::span<const int> x_columns, int first_y, const LinearFit& fit) {
  const auto n_y = static_cast<int>(fit.bias.size());
  const MatrixD xy = gram.xy(x_columns, first_y, n_y);
  const MatrixD explained = gram.xx(x_columns) * fit.weight;
  const VectorD shift = gram.y_mean(first_y, n_y) - fit.weight.transpose() * gram.x_mean(x_columns) - fit.bias;
  return total_sum(gram, first_y, n_y) - 2.0 * fit.weight.cwiseProduct(xy).sum() + fit.weight.cwiseProduct(explained).sum() +
         gram.rows() * shift.squaredNorm();
}

double total_sum(const Gram& gram, int first_y, int n_y) {
  return gram.yy(first_y, n_y).trace();
}

}  // namespace celslm
