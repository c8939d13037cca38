#include "align/condense/mass_fit.h"

#include <algorithm>
#include <cmath>

namespace celslm {
namespace {

constexpr double kStill = 1e-4;

}  // namespace

MassFit::MassFit(const HeadAttention& attention, const MassOptions& options)
    : gram_(attention.gram()), options_(options), residual_(attention.weights().colwise().sum().transpose()) {}

void MassFit::add(int row) {
  rows_.push_back(row);
  masses_.push_back(1.0);
  residual_ -= gram_.row(row).transpose();
  diagonal_ += gram_(row, row);
  penalty_ = options_.ridge * diagonal_ / static_cast<double>(rows_.size());
}

void MassFit::improve(int sweeps) {
  for (bool moved = true; moved && sweeps > 0; --sweeps) {
    moved = false;
    for (std::size_t i = 0; i < rows_.size(); ++i) moved |= improve_row(i);
  }
}

bool MassFit::improve_row(std::size_t i) {
  const int row = rows_[i];
  const double curvature = gram_(row, row) + penalty_;
  if (curvature <= 0.0) return false;  // no query sees it
  const double slope = residual_(row) + penalty_ * (1.0 - masses_[i]);
  const double mass = std::clamp(masses_[i] + slope / curvature, options_.least, options_.most);
  const double change = mass - masses_[i];
  if (std::abs(change) <= kStill * mass) return false;
  residual_ -= static_cast<float>(change) * gram_.row(row).transpose();
  masses_[i] = mass;
  return true;
}

}  // namespace celslm
