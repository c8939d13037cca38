#include "align/condense/match.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "align/condense/test_support.h"

namespace celslm {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsSupersetOf;
using testing_support::Head;
using testing_support::random_matrix;

MatchOptions options_of(int n_rows, RowRank rank = RowRank::kPursuit) {
  return {.choice = {.n_rows = n_rows, .rank = rank, .n_first = 2, .n_last = 2}};
}

// Attention in double, in loops; log_mass may be empty.
MatrixD plain_attention(const MatrixF& k, const MatrixF& v, const MatrixF& queries, float scale,
                        const std::vector<float>& log_mass = {}) {
  MatrixD out = MatrixD::Zero(queries.rows(), v.cols());
  for (Eigen::Index i = 0; i < queries.rows(); ++i) {
    double sum = 0.0;
    for (Eigen::Index j = 0; j < k.rows(); ++j) {
      double score = log_mass.empty() ? 0.0 : log_mass[static_cast<std::size_t>(j)];
      for (Eigen::Index d = 0; d < k.cols(); ++d) score += double{scale} * queries(i, d) * k(j, d);
      const double weight = std::exp(score);
      sum += weight;
      for (Eigen::Index d = 0; d < v.cols(); ++d) out(i, d) += weight * v(j, d);
    }
    out.row(i) /= sum;
  }
  return out;
}

TEST(HeadAttentionTest, IsThatOfPlainLoops) {
  const Head head;
  const MatrixF queries = head.queries(20, 4);
  const HeadAttention attention(head.k, head.v, queries, Head::kScale);
  const MatrixD expected = plain_attention(head.k, head.v, queries, Head::kScale);
  EXPECT_LT((attention.outputs().cast<double>() - expected).cwiseAbs().maxCoeff(), 1e-5);
  EXPECT_LT((attention.gram() - attention.weights().transpose() * attention.weights()).cwiseAbs().maxCoeff(), 1e-5F);
}

TEST(MatchTest, ErrorIsThatOfAttentionOverTheMatchedRows) {
  const Head head;
  const MatrixF queries = head.queries(30, 5);
  const auto matched = match_attention(head.attention(200, 4), options_of(20));
  const MatrixF k = head.k(matched.rows, Eigen::placeholders::all);
  const MatrixD full = plain_attention(head.k, head.v, queries, Head::kScale);
  const MatrixD few = plain_attention(k, matched.v, queries, Head::kScale, matched.log_mass);
  const auto error = match_error(HeadAttention(head.k, head.v, queries, Head::kScale), matched);
  EXPECT_NEAR(error.output, (few - full).squaredNorm() / full.squaredNorm(), 1e-5);
  EXPECT_GT(error.output, 1e-4);
  EXPECT_GT(error.mass, 1e-3);
}

TEST(MatchTest, AllRowsGiveBackTheFullAttention) {
  const Head head;
  const auto matched = match_attention(head.attention(200, 4), options_of(Head::kRows));
  ASSERT_EQ(matched.rows.size(), std::size_t{Head::kRows});
  EXPECT_THAT(matched.log_mass, Each(testing::FloatNear(0.0F, 1e-3F)));
  EXPECT_LT((matched.v - head.v).cwiseAbs().maxCoeff(), 1e-3F);
  const auto error = match_error(head.attention(50, 5), matched);
  EXPECT_LT(error.output, 1e-8);
  EXPECT_LT(error.mass, 1e-4);
}

TEST(MatchTest, ErrorFallsWithTheRowsThatAreKept) {
  const Head head;
  const auto fitted = head.attention(400, 4);
  const auto others = head.attention(400, 5);
  double output = 1e9;
  for (const int n_rows : {12, 24, 48, 96}) {
    const double error = match_error(others, match_attention(fitted, options_of(n_rows))).output;
    EXPECT_LT(error, 0.7 * output) << n_rows;
    output = error;
  }
}

TEST(MatchTest, IsBetterThanItsPartsAndThanRowsByPositionOrAtRandom) {
  const Head head;
  const auto fitted = head.attention(400, 4);
  const auto others = head.attention(400, 5);
  const auto error_of = [&](RowRank rank, bool masses, bool values) {
    auto options = options_of(24, rank);
    options.fit_masses = masses;
    options.fit_values = values;
    return match_error(others, match_attention(fitted, options)).output;
  };
  for (const RowRank rank : {RowRank::kPursuit, RowRank::kAttention, RowRank::kMostAttention, RowRank::kEffect}) {
    const double both = error_of(rank, true, true);
    EXPECT_LT(both, error_of(rank, false, false)) << static_cast<int>(rank);
    EXPECT_LT(both, error_of(rank, true, false)) << static_cast<int>(rank);
    EXPECT_LT(both, 0.5 * error_of(RowRank::kRandom, false, false)) << static_cast<int>(rank);
    EXPECT_LT(both, 0.5 * error_of(RowRank::kEvenly, false, false)) << static_cast<int>(rank);
  }
}

TEST(MatchTest, NoOtherValuesReadBetter) {
  const Head head;
  const auto fitted = head.attention(400, 4);
  auto options = options_of(16);
  options.value_ridge = 1e-6;
  auto matched = match_attention(fitted, options);
  const double best = match_error(fitted, matched).output;
  int worse = 0;
  for (Eigen::Index row = 0; row < 16; ++row) {
    for (const float step : {-0.1F, 0.1F}) {
      matched.v(row, row) += step;
      const double error = match_error(fitted, matched).output;
      EXPECT_GT(error, best - 1e-6);
      worse += error > best + 1e-6 ? 1 : 0;
      matched.v(row, row) -= step;
    }
  }
  EXPECT_GT(worse, 16) << "rows that hardly any query reads make no difference";
}

TEST(MatchTest, ARowThatNoQueryReadsStaysWhatItWas) {
  Head head;
  MatrixF queries = head.queries(100, 4);
  queries.col(15).setConstant(1.0F);
  head.k.row(95).setZero();
  head.k(95, 15) = -1000.0F;
  const HeadAttention attention(head.k, head.v, queries, Head::kScale);
  ASSERT_LT(attention.weights().col(95).maxCoeff(), 1e-20F);
  const auto matched = match_attention(attention, options_of(16));
  ASSERT_EQ(matched.rows.back(), 95);
  EXPECT_EQ(matched.log_mass.back(), 0.0F);
  EXPECT_LT((matched.v.row(15) - head.v.row(95)).cwiseAbs().maxCoeff(), 1e-5F);
}

TEST(MassFitTest, OneOfTwoEqualRowsStandsForTwo) {
  const Head head;
  MatrixF k(20, Head::kDim);
  MatrixF v(20, Head::kDim);
  for (int row = 0; row < 20; ++row) {
    k.row(row) = head.k.row(row % 10);
    v.row(row) = head.v.row(row % 10);
  }
  const HeadAttention attention(k, v, head.queries(200, 4), Head::kScale);
  auto options = options_of(10);
  options.choice.n_first = options.choice.n_last = 0;
  options.masses.ridge = 1e-6;
  const auto matched = match_attention(attention, options);
  std::set<int> different;
  for (const int row : matched.rows) different.insert(row % 10);
  EXPECT_EQ(different.size(), 10U) << "pursuit has no use for a row that it has already";
  EXPECT_THAT(matched.log_mass, Each(testing::FloatNear(std::log(2.0F), 0.05F)));
  EXPECT_LT(match_error(attention, matched).output, 1e-4);
}

TEST(MassFitTest, NoMassWithinTheBoundsFitsBetter) {
  const Head head;
  const auto attention = head.attention(300, 4);
  const MassOptions options{.least = 0.5, .most = 4.0, .ridge = 1e-9, .sweeps = 5000};
  MassFit fit(attention, options);
  for (int row = 0; row < 40; row += 2) fit.add(row);
  fit.improve(options.sweeps);
  int inside = 0;
  for (std::size_t i = 0; i < fit.rows().size(); ++i) {
    const double mass = fit.masses()[i];
    const double slope = fit.residual()(fit.rows()[i]);  // by how much more of this row would help
    EXPECT_GE(mass, options.least);
    EXPECT_LE(mass, options.most);
    if (mass > options.least && mass < options.most) {
      EXPECT_NEAR(slope, 0.0, 0.02);
      ++inside;
    } else {
      EXPECT_EQ(slope > 0.0, mass == options.most) << slope;
    }
  }
  EXPECT_GT(inside, 3);
  EXPECT_LT(inside, 20) << "bounds that are never met prove nothing";
}

TEST(RowChoiceTest, TheFirstAndTheLastRowsAreAlwaysKept) {
  const auto attention = Head().attention(100, 4);
  for (const RowRank rank : {RowRank::kAttention, RowRank::kMostAttention, RowRank::kEffect, RowRank::kPursuit,
                             RowRank::kEvenly, RowRank::kRandom}) {
    for (const int n_rows : {4, 5, 17, 95, 96}) {
      const auto rows = choose_rows(attention, options_of(n_rows, rank).choice, {});
      EXPECT_EQ(rows.size(), static_cast<std::size_t>(n_rows));
      EXPECT_THAT(rows, IsSupersetOf({0, 1, 94, 95}));
      EXPECT_TRUE(std::ranges::is_sorted(rows));
      EXPECT_EQ(std::set(rows.begin(), rows.end()).size(), rows.size());
    }
  }
}

TEST(RowChoiceTest, RowsAreRankedByWhatTheyDoForTheQueries) {
  // Row 1 gets the most attention of one query, row 2 the most in all; row 3 some, with values of its own.
  MatrixF k(5, 2);
  k << -9.0F, -9.0F, 4.0F, -9.0F, 1.0F, 3.0F, 0.0F, 2.5F, -9.0F, -9.0F;
  MatrixF v = MatrixF::Ones(5, 1);
  v(3) = 10.0F;
  MatrixF queries(3, 2);
  queries << 1.0F, 0.0F, 0.0F, 1.0F, 0.0F, 1.0F;
  const HeadAttention attention(k, v, queries, 1.0F);
  const auto best = [&](RowRank rank) {
    return choose_rows(attention, {.n_rows = 1, .rank = rank, .n_first = 0, .n_last = 0}, {});
  };
  EXPECT_THAT(best(RowRank::kMostAttention), ElementsAre(1));
  EXPECT_THAT(best(RowRank::kAttention), ElementsAre(1));
  EXPECT_THAT(best(RowRank::kPursuit), ElementsAre(2));
  EXPECT_THAT(best(RowRank::kEffect), ElementsAre(3));
}

TEST(RowChoiceTest, RandomRowsAreTheSameForTheSameSeed) {
  const auto attention = Head().attention(10, 4);
  auto choice = options_of(20, RowRank::kRandom).choice;
  const auto rows = choose_rows(attention, choice, {});
  EXPECT_EQ(rows, choose_rows(attention, choice, {}));
  choice.seed = 2;
  EXPECT_NE(rows, choose_rows(attention, choice, {}));
}

}  // namespace
}  // namespace celslm
