#include "align/fit/gram.h"

#include <algorithm>

namespace celslm {
namespace {

template <typename M>
std::span<double> values(M& m) {
  return {m.data(), static_cast<std::size_t>(m.size())};
}

}  // namespace

Gram::Gram(int n_x, int n_y, int y_width)
    : y_width_(y_width),
      x_sum_(VectorD::Zero(n_x)),
      y_sum_(VectorD::Zero(n_y)),
      xx_(MatrixD::Zero(n_x, n_x)),
      xy_(MatrixD::Zero(n_x, n_y)),
      yy_(MatrixD::Zero(n_y, y_width)) {}

void Gram::add(std::span<const float> x, std::span<const float> y, int n) {
  const MatrixD rows_x = ConstRowsF(x.data(), n, n_x()).cast<double>();
  const MatrixD rows_y = ConstRowsF(y.data(), n, n_y()).cast<double>();
  rows_ += n;
  x_sum_ += rows_x.colwise().sum().transpose();
  y_sum_ += rows_y.colwise().sum().transpose();
  xx_.selfadjointView<Eigen::Lower>().rankUpdate(rows_x.transpose());
  xy_.noalias() += rows_x.transpose() * rows_y;
  for (int first = 0; first < n_y(); first += y_width_) {
    const auto block = rows_y.middleCols(first, y_width_);
    yy_.middleRows(first, y_width_).noalias() += block.transpose() * block;
  }
}

MatrixD Gram::xx(std::span<const int> columns) const {
  const auto n = static_cast<Eigen::Index>(columns.size());
  MatrixD out(n, n);
  for (Eigen::Index i = 0; i < n; ++i) {
    for (Eigen::Index j = 0; j <= i; ++j) {
      const int a = columns[static_cast<std::size_t>(i)];
      const int b = columns[static_cast<std::size_t>(j)];
      out(i, j) = xx_(std::max(a, b), std::min(a, b)) - x_sum_[a] * x_sum_[b] / rows_;
      out(j, i) = out(i, j);
    }
  }
  return out;
}

MatrixD Gram::xy(std::span<const int> x_columns, int first_y, int n_y) const {
  MatrixD out(static_cast<Eigen::Index>(x_columns.size()), n_y);
  for (Eigen::Index i = 0; i < out.rows(); ++i) {
    const int a = x_columns[static_cast<std::size_t>(i)];
    out.row(i) = xy_.row(a).segment(first_y, n_y) - y_sum_.segment(first_y, n_y).transpose() * (x_sum_[a] / rows_);
  }
  return out;
}

MatrixD Gram::yy(int first_y, int n_y) const {
  const VectorD sum = y_sum_.segment(first_y, n_y);
  return yy_.block(first_y, first_y % y_width_, n_y, n_y) - sum * sum.transpose() / rows_;
}

VectorD Gram::x_mean(std::span<const int> columns) const {
  VectorD out(static_cast<Eigen::Index>(columns.size()));
  for (Eigen::Index i = 0; i < out.size(); ++i) out[i] = x_sum_[columns[static_cast<std::size_t>(i)]] / rows_;
  return out;
}

VectorD Gram::y_mean(int first_y, int n_y) const {
  return y_sum_.segment(first_y, n_y) / rows_;
}

std::array<std::span<double>, 6> Gram::parts() {
  return {std::span(&rows_, 1), values(x_sum_), values(y_sum_), values(xx_), values(xy_), values(yy_)};
}

}  // namespace celslm
