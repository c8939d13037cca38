// Sums of products over paired rows: sufficient for a linear fit, its error on held-out data and linear CKA, in memory that
// does not grow with the number of rows.
#pragma once

#include <array>
#include <span>

#include "align/map/eigen.h"

namespace celslm {

// Over paired rows x (all source layers concatenated) and y (all target layers concatenated). Held in double:
// 8 (n_x^2 + n_x n_y + n_y y_width) bytes. Not thread-safe.
class Gram {
 public:
  // y has y_width columns for each layer; products of columns of different layers are not kept. y_width divides n_y.
  Gram(int n_x, int n_y, int y_width);

  // x: [n][n_x], y: [n][n_y]
  void add(std::span<const float> x, std::span<const float> y, int n);

  int n_x() const { return static_cast<int>(x_sum_.size()); }
  int n_y() const { return static_cast<int>(y_sum_.size()); }
  double rows() const { return rows_; }

  // Centred: sums of (x - mean)'(x - mean) and so on over the given columns.
  MatrixD xx(std::span<const int> columns) const;
  MatrixD xy(std::span<const int> x_columns, int first_y, int n_y) const;
  MatrixD yy(int first_y, int n_y) const;  // the columns must belong to one layer
  VectorD x_mean(std::span<const int> columns) const;
  VectorD y_mean(int first_y, int n_y) const;

  // The complete state, to be saved and restored unchanged (checkpoints).
  std::array<std::span<double>, 6> parts();

 private:
  double rows_ = 0.0;
  int y_width_;
  VectorD x_sum_;
  VectorD y_sum_;
  MatrixD xx_;  // lower triangle
  MatrixD xy_;
  MatrixD yy_;  // [n_y][y_width]: the diagonal blocks, stacked
};

}  // namespace celslm
