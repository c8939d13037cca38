#include "align/condense/match.h"

#include <Eigen/Cholesky>
#include <cmath>
#include <limits>

namespace celslm {
namespace {

// Attention weights of the chosen rows with their masses; not normalised: their sum is the mass relative to all rows'.
MatrixF masses_of(const HeadAttention& attention, const MatchedRows& matched) {
  MatrixF out = attention.weights()(Eigen::placeholders::all, matched.rows);
  for (std::size_t i = 0; i < matched.rows.size(); ++i)
    out.col(static_cast<Eigen::Index>(i)) *= std::exp(matched.log_mass[i]);
  return out;
}

// exp() of scores far below a query's best is zero: where no chosen row is left, the query reads zeros.
void normalise(MatrixF& x) {
  const Eigen::VectorXf sums = x.rowwise().sum().cwiseMax(std::numeric_limits<float>::min());
  x.array().colwise() /= sums.array();
}

std::vector<float> fitted_masses(const HeadAttention& attention, const std::vector<int>& rows, const MassOptions& options) {
  MassFit fit(attention, options);
  for (const int row : rows) fit.add(row);
  fit.improve(options.sweeps);
  std::vector<float> out;
  for (const double mass : fit.masses()) out.push_back(static_cast<float>(std::log(mass)));
  return out;
}

// The change of the values that brings x (v + change) closest to the full KV's outputs.
MatrixF fitted_change(const HeadAttention& attention, const MatrixF& x, const MatrixF& v, double ridge) {
  const MatrixF missing = attention.outputs() - x * v;
  MatrixD xx = MatrixD::Zero(x.cols(), x.cols());
  const MatrixF products = x.transpose() * x;
  xx = products.cast<double>();
  const double mean = xx.trace() / static_cast<double>(xx.rows());
  xx.diagonal().array() += mean > 0.0 ? ridge * mean : 1.0;
  const MatrixF xy = x.transpose() * missing;
  return Eigen::LLT<Eigen::Ref<MatrixD>, Eigen::Lower>(xx).solve(xy.cast<double>()).cast<float>();
}

}  // namespace

MatchedRows match_attention(const HeadAttention& attention, const MatchOptions& options) {
  MatchedRows out;
  out.rows = choose_rows(attention, options.choice, options.masses);
  out.log_mass.resize(out.rows.size(), 0.0F);
  if (options.fit_masses) out.log_mass = fitted_masses(attention, out.rows, options.masses);
  out.v = attention.values()(out.rows, Eigen::placeholders::all);
  if (!options.fit_values) return out;
  MatrixF x = masses_of(attention, out);
  normalise(x);
  out.v += fitted_change(attention, x, out.v, options.value_ridge);
  return out;
}

MatchError match_error(const HeadAttention& attention, const MatchedRows& matched) {
  MatrixF x = masses_of(attention, matched);
  const Eigen::ArrayXd sums = x.rowwise().sum().cwiseMax(std::numeric_limits<float>::min()).cast<double>().array();
  normalise(x);
  const MatrixF difference = x * matched.v - attention.outputs();
  const double size = attention.outputs().cast<double>().squaredNorm();
  return {.output = size > 0.0 ? difference.cast<double>().squaredNorm() / size : 0.0,
          .mass = std::sqrt(sums.log().square().mean())};
}

}  // namespace celslm
