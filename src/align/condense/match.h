// Attention matching (Zweiger et al. 2026, arXiv 2602.16284): a few rows of KV that given queries read as they read all.
//
// For one KV head with keys K, values V and queries Q: rows are chosen (row_choice.h), each gets a log-mass (mass_fit.h),
// and new values by least squares. What differs from the paper: errors of masses are relative to each query's sum, and
// values are pulled toward those that the rows had, not toward zero, so that rows which no query reads stay what they were.
#pragma once

#include <vector>

#include "align/condense/row_choice.h"

namespace celslm {

struct MatchOptions {
  RowChoice choice;
  MassOptions masses;
  bool fit_masses = true;     // else all log-masses are 0
  bool fit_values = true;     // else the rows keep their values
  double value_ridge = 1e-2;  // toward the rows' values, relative to the mean diagonal of X'X, X their attention weights
};

// What stands for one KV head's rows. A query's score with a row is q.k scale + log_mass.
struct MatchedRows {
  std::vector<int> rows;        // of the full KV, ascending: whose keys and positions they keep
  std::vector<float> log_mass;  // of each: log of how many rows it stands for
  MatrixF v;                    // [rows.size()][head_dim]
};

// choice.n_rows must be between choice.n_first + choice.n_last and the number of rows.
MatchedRows match_attention(const HeadAttention& attention, const MatchOptions& options);

// How far the matched rows' attention is from the full KV's for the queries of `attention`, which need not be those that
// they were fitted to.
struct MatchError {
  double output = 0.0;  // |o' - o|^2 over |o|^2, both summed over the queries
  double mass = 0.0;    // root mean square of log(sum over the matched rows) - log(sum over all rows)
};
MatchError match_error(const HeadAttention& attention, const MatchedRows& matched);

}  // namespace celslm
