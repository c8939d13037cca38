// Eigen's matrix types as align uses them: row-major, like all tensors of this project.
#pragma once

#include <Eigen/Core>

namespace celslm {

using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using VectorD = Eigen::VectorXd;
using MatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstRowsF = Eigen::Map<const MatrixF>;
using RowsF = Eigen::Map<MatrixF>;

}  // namespace celslm
