// Ridge regression with an unpenalised bias, and reduced-rank regression, from sums of products.
#pragma once

#include <span>

#include "align/fit/gram.h"

namespace celslm {

// y ~ x * weight + bias
struct LinearFit {
  MatrixD weight;  // [x columns][y columns]
  VectorD bias;    // [y columns]
};

// Minimises |y - x W - b|^2 + lambda m |W|^2 over the data of `gram`, where m is the mean of the diagonal of the centred
// X'X: W = (X'X + lambda m I)^-1 X'Y, b = mean(y) - mean(x) W. Columns [first_y, first_y + n_y) of y must belong to one
// layer; lambda must be positive.
LinearFit fit_ridge(const Gram& gram, std::span<const int> x_columns, int first_y, int n_y, double lambda);

// Reduced-rank regression: the weight of the given rank, left * right, whose predictions are closest to those of `fit`. The
// rows of `right` are the leading eigenvectors of W' X'X W, the directions along which the predictions vary most. `xx` is
// the centred X'X of the fit's columns; rank must be less than n_y.
struct Factors {
  MatrixD left;   // [x columns][rank]
  MatrixD right;  // [rank][y columns]
};
Factors reduce_rank(const LinearFit& fit, const MatrixD& xx, int rank);

// The sum over rows and columns of (y - x W - b)^2; `gram` need not be the data of the fit.
double error_sum(const Gram& gram, std::span<const int> x_columns, int first_y, const LinearFit& fit);
// The sum over rows and columns of (y - mean(y))^2. R^2 is 1 - error_sum / total_sum.
double total_sum(const Gram& gram, int first_y, int n_y);

}  // namespace celslm
