// The matrices of this layer. Rows lie one after the other, as everywhere in this project.
#pragma once

#include <Eigen/Core>

namespace celslm {

using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using VectorD = Eigen::VectorXd;
using MatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstRowsF = Eigen::Map<const MatrixF>;
using RowsF = Eigen::Map<MatrixF>;

}  // namespace celslm
