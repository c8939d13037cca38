// Which rows of a context's KV a short KV keeps, for one KV head.
#pragma once

#include <cstdint>
#include <vector>

#include "align/condense/mass_fit.h"

namespace celslm {

enum class RowRank : std::uint8_t {
  kAttention,      // root mean square over the queries of the attention that a row gets
  kMostAttention,  // the most that any query gives it
  kEffect,         // root mean square of what taking the row away would change of the queries' outputs: a |v - o|
  kPursuit,        // orthogonal matching pursuit: repeatedly the row that explains most of the mass still missing
  kEvenly,         // positions at equal distances (a control)
  kRandom,         // (a control)
};

struct RowChoice {
  int n_rows = 0;  // to keep: at least n_first + n_last, at most all
  RowRank rank = RowRank::kEffect;
  int n_first = 4;  // always kept: attention sinks
  int n_last = 4;   // always kept: what a turn ends with
  std::uint64_t seed = 1;
};

// Ascending, without duplicates, choice.n_rows of them.
std::vector<int> choose_rows(const HeadAttention& attention, const RowChoice& choice, const MassOptions& masses);

}  // namespace celslm
