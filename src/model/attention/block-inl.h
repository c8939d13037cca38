// A block of up to kMaxRows query vectors against one tile: scores, running softmax, weighted values.
//
// Every sum has one order, whatever the block: a score adds its dimensions from first to last, an output its keys from first
// to last, each with one fused multiply-add per term. Blocks of different heights therefore give the same bits.
#if defined(CELSLM_ATTENTION_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CELSLM_ATTENTION_BLOCK_INL_H_
#undef CELSLM_ATTENTION_BLOCK_INL_H_
#else
#define CELSLM_ATTENTION_BLOCK_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <numbers>
#include <utility>

#include "hwy/highway.h"
#include "model/attention/exp2-inl.h"
#include "model/attention/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::attention_detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Sums that are kept in registers at once: rows x columns (in vectors). Enough of them to hide the latency of a
// multiply-add, few enough for the register file: 32 registers with AVX-512 and on Arm, 16 before. 6 x 4 and 7 x 4 measured
// the same as 8 x 2.
inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64;
inline constexpr int kMaxRows = kManyRegisters ? 8 : 6;
constexpr int columns(int rows) {
  return rows <= (kManyRegisters ? 3 : 2) ? 4 : 2;
}

using VF = hn::Vec<F32>;

// scores: [kRows][kTile], columns [column, column + kColumns * kLanes) = q . keys; q: [head_dim][kRows], keys:
// [head_dim][kTile].
template <int kRows, int kColumns>
HWY_INLINE void score_columns(const float* HWY_RESTRICT q, const float* HWY_RESTRICT keys, std::size_t head_dim,
                              std::size_t column, float* HWY_RESTRICT scores) {
  const F32 d;
  VF sums[kRows][kColumns];
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::Zero(d);
  }
  const float* key = keys + column;
  for (std::size_t i = 0; i < head_dim; ++i, key += kTile, q += kRows) {
    VF k[kColumns];
    HWY_UNROLL(4)
    for (int c = 0; c < kColumns; ++c) k[c] = hn::Load(d, key + c * kLanes);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const VF qr = hn::Set(d, q[r]);
      HWY_UNROLL(4)
      for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::MulAdd(qr, k[c], sums[r][c]);
    }
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int c = 0; c < kColumns; ++c) hn::Store(sums[r][c], d, scores + r * kTile + column + c * kLanes);
  }
}

// outputs[r][d .. d + kColumns * kLanes) = outputs * corrections[r] + weights[r] . values; weights: [kRows][kTile], values
// of type T: [n_keys][width].
template <int kRows, int kColumns, typename T>
HWY_INLINE void add_columns(const float* HWY_RESTRICT weights, const T* HWY_RESTRICT values, std::size_t width,
                            std::size_t n_keys, const float* corrections, float* const* outputs, std::size_t column) {
  const F32 d;
  VF sums[kRows][kColumns];
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int c = 0; c < kColumns; ++c) {
      sums[r][c] = hn::Mul(hn::Load(d, outputs[r] + column + c * kLanes), hn::Set(d, corrections[r]));
    }
  }
  const T* value = values + column;
  for (std::size_t key = 0; key < n_keys; ++key, value += width) {
    VF v[kColumns];
    HWY_UNROLL(4)
    for (int c = 0; c < kColumns; ++c) v[c] = load_f32(value + c * kLanes);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const VF weight = hn::Set(d, weights[r * kTile + key]);
      HWY_UNROLL(4)
      for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::MulAdd(weight, v[c], sums[r][c]);
    }
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (int c = 0; c < kColumns; ++c) hn::Store(sums[r][c], d, outputs[r] + column + c * kLanes);
  }
}

// scores[i] += log_mass[i] in units of log 2, for i < n_keys. A log mass of 0 changes no bit that matters: it may turn -0 to
// 0.
HWY_INLINE void add_log_mass(const float* HWY_RESTRICT log_mass, std::size_t n_keys, float* HWY_RESTRICT scores) {
  const F32 d;
  const VF unit = hn::Set(d, std::numbers::log2e_v<float>);
  for (std::size_t i = 0; i < n_keys; i += kLanes) {
    const VF mass = hn::LoadN(d, log_mass + i, std::min(kLanes, n_keys - i));
    hn::Store(hn::MulAdd(mass, unit, hn::Load(d, scores + i)), d, scores + i);
  }
}

// Running state of one query vector: largest score (in units of log 2) and kLanes partial sums of the weights.
struct RunningSoftmax {
  float* max;
  float* sums;  // [kLanes]
};

// Keys [first, last) of a tile.
struct Keys {
  std::size_t first;
  std::size_t last;
};

// Turns the scores of a row's keys `seen` of a tile, at least one, into weights 2^(score - max), zero for the others of
// `all`, which begins at a multiple of kLanes; returns the factor for what was added up before. scores: [kTile], of which
// the vectors that hold `all` are valid.
HWY_NOINLINE float weigh(float* HWY_RESTRICT scores, Keys seen, Keys all, RunningSoftmax state) {
  const F32 d;
  const VF masked = hn::Neg(hn::Inf(d));
  VF largest = masked;
  for (std::size_t i = all.first; i < all.last; i += kLanes) {
    VF s = hn::Load(d, scores + i);
    if (i + kLanes > seen.last) {
      s = hn::IfThenElse(hn::FirstN(d, seen.last > i ? seen.last - i : 0), s, masked);
      hn::Store(s, d, scores + i);
    }
    if (i < seen.first) {
      s = hn::IfThenElse(hn::FirstN(d, seen.first - i), masked, s);
      hn::Store(s, d, scores + i);
    }
    largest = hn::Max(largest, s);
  }
  const float max = HWY_MAX(*state.max, hn::ReduceMax(d, largest));
  const VF correction = exp2_nonpositive(d, hn::Set(d, *state.max - max));
  const VF shift = hn::Set(d, max);
  VF sum = hn::Zero(d);
  for (std::size_t i = all.first; i < all.last; i += kLanes) {
    const VF weight = exp2_nonpositive(d, hn::Sub(hn::Load(d, scores + i), shift));
    sum = hn::Add(sum, weight);
    hn::Store(weight, d, scores + i);
  }
  hn::Store(hn::MulAdd(hn::Load(d, state.sums), correction, sum), d, state.sums);
  *state.max = max;
  return hn::GetLane(correction);
}

// A tile of one segment: keys as f32 [head_dim][kTile], values of type V [n_keys][width].
template <typename V>
struct Tile {
  const float* keys;
  const V* values;
  const float* log_mass;  // [n_keys], or null
  std::size_t head_dim;
  std::size_t width;
  int first;      // token of column 0
  int first_key;  // of the columns that hold keys, [first_key, n_keys)
  int n_keys;     // <= kTile
};

// A block's rows: [kRows] queries side by side, and where each row's state lies.
struct BlockRows {
  const float* q;  // [head_dim][kRows]
  const Seen* seen;
  float* const* outputs;
  const RunningSoftmax* softmax;
  float* scores;  // scratch, [kRows][kTile]
};

// Adds the keys of the tile that a row sees to its running sums.
template <int kRows, typename V>
void attend_block(const Tile<V>& tile, const BlockRows& rows) {
  constexpr int kColumns = columns(kRows);
  constexpr int kStep = kColumns * static_cast<int>(kLanes);
  int begin = tile.n_keys;
  int end = 0;
  for (int r = 0; r < kRows; ++r) {
    begin = std::min(begin, rows.seen[r].first - tile.first);
    end = std::max(end, rows.seen[r].last - tile.first);
  }
  begin = std::max(begin, tile.first_key);
  end = std::min(end, tile.n_keys);
  if (begin >= end) return;

  const int column = begin / kStep * kStep;
  for (int c = column; c < end; c += kStep) {
    score_columns<kRows, kColumns>(rows.q, tile.keys, tile.head_dim, c, rows.scores);
  }
  float corrections[kRows];
  for (int r = 0; r < kRows; ++r) {
    const int first = std::max(begin, rows.seen[r].first - tile.first);
    const int last = std::min(end, rows.seen[r].last - tile.first);
    float* const scores = rows.scores + r * kTile;
    if (tile.log_mass != nullptr) add_log_mass(tile.log_mass, end, scores);
    const auto at = [](int key) { return static_cast<std::size_t>(key); };
    corrections[r] = first < last ? weigh(scores, {at(first), at(last)}, {at(column), at(end)}, rows.softmax[r]) : 1.0F;
    if (first >= last) std::fill(scores + column, scores + end, 0.0F);
  }
  const float* const weights = rows.scores + begin;
  const V* const values = tile.values + static_cast<std::size_t>(begin) * tile.width;
  const auto n_keys = static_cast<std::size_t>(end - begin);
  std::size_t d = 0;
  for (; d + kColumns * kLanes <= tile.width; d += kColumns * kLanes) {
    add_columns<kRows, kColumns>(weights, values, tile.width, n_keys, corrections, rows.outputs, d);
  }
  for (; d < tile.width; d += kLanes) {
    add_columns<kRows, 1>(weights, values, tile.width, n_keys, corrections, rows.outputs, d);
  }
}

template <typename V>
using AttendBlock = void (*)(const Tile<V>&, const BlockRows&);

template <typename V, int... kRows>
AttendBlock<V> attend_block_of(int n_rows, std::integer_sequence<int, kRows...> /*0..*/) {
  static constexpr AttendBlock<V> kTable[] = {attend_block<kRows + 1, V>...};
  return kTable[n_rows - 1];
}

// The kernel for blocks of n_rows in 1..kMaxRows.
template <typename V>
AttendBlock<V> attend_block_of(int n_rows) {
  return attend_block_of<V>(n_rows, std::make_integer_sequence<int, kMaxRows>());
}

}  // namespace celslm::attention_detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
