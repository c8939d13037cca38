// Sums of products over paired rows: all that a linear fit, its judgement on held-out text and linear CKA need of the data,
// in memory that does not grow with the text.
#pragma once

#include <array>
#include <span>

#include "align/map/eigen.h"

namespace celslm {

// Paired rows x (all source layers side by side) and y (all target layers side by side). In double:
// 8 (n_x^2 + n_x n_y + n_y y_width) bytes. One thread at a time.
class Gram {
 public:
  // y consists of stretches of y_width columns, one a layer; products of columns of different layers are not kept.
  Gram(int n_x, int n_y, int y_width);

  // x: [n][n_x], y: [n][n_y]
  void add(std::span<const float> x, std::span<const float> y, int n);

  int n_x() const { return static_cast<int>(x_sum_.size()); }
  int n_y() const { return static_cast<int>(y_sum_.size()); }
  double rows() const { return rows_; }

  // Each about the means of this data: sums of (x - mean)(x - mean)' and so on, of the columns named.
  MatrixD xx(std::span<const int> columns) const;
  MatrixD xy(std::span<const int> x_columns, int first_y, int n_y) const;
  MatrixD yy(int first_y, int n_y) const;  // columns of one layer
  VectorD x_mean(std::span<const int> columns) const;
  VectorD y_mean(int first_y, int n_y) const;

  // All the numbers there are, to be kept and put back as they are (a checkpoint).
  std::array<std::span<double>, 6> parts();

 private:
  double rows_ = 0.0;
  int y_width_;
  VectorD x_sum_;
  VectorD y_sum_;
  MatrixD xx_;  // lower triangle
  MatrixD xy_;
  MatrixD yy_;  // [n_y][y_width]: the blocks on the diagonal, one below the other
};

}  // namespace celslm
