// Linear maps with an unpenalised bias, from sums of products.
#pragma once

#include <span>

#include "align/fit/gram.h"

namespace celslm {

// y ~ x weight + bias
struct LinearFit {
  MatrixD weight;  // [x columns][y columns]
  VectorD bias;    // [y columns]
};

// Minimises |y - x W - b|^2 + lambda m |W|^2 over the data of `gram`, where m is the mean of the diagonal of the centred
// X'X: W = (X'X + lambda m I)^-1 X'Y, b = mean(y) - mean(x) W. y columns: [first_y, first_y + n_y), all of one layer. lambda
// > 0.
LinearFit fit_ridge(const Gram& gram, std::span<const int> x_columns, int first_y, int n_y, double lambda);

// The fit of that rank whose predictions of the data are nearest to `fit`'s (reduced-rank regression): weight = left right,
// the columns of right' being the directions along which the predictions vary most. rank < n_y.
struct Factors {
  MatrixD left;   // [x columns][rank]
  MatrixD right;  // [rank][y columns]
};
Factors reduce_rank(const LinearFit& fit, const MatrixD& xx, int rank);

// Sum over rows and columns of (y - x W - b)^2, of data that need not be those of the fit.
double error_sum(const Gram& gram, std::span<const int> x_columns, int first_y, const LinearFit& fit);
// Sum of (y - mean(y))^2. R^2 is 1 - error_sum / total_sum.
double total_sum(const Gram& gram, int first_y, int n_y);

}  // namespace celslm
