#include <algorithm>

#include "kv/codec/transform.h"

// Highway compiles everything below once per instruction set and picks one at run time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/codec/transform_synthesize.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#ifndef CELSLM_KV_TRANSFORM_HEAD  // this file is read once per instruction set
#define CELSLM_KV_TRANSFORM_HEAD
namespace celslm {

// What Synthesizer hands over; the names as there.
struct Head {
  const std::int32_t* directions;
  const std::int32_t* offset;
  const float* units;
  std::size_t rank;
  std::size_t width;
  std::size_t padded;
};

}  // namespace celslm
#endif

HWY_BEFORE_NAMESPACE();
namespace celslm {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kTile = 8;  // rows at a time: as many sums stay in registers

// [pairs][kTile]: rows [t, t + count) of each two neighbouring directions' coefficients, interleaved; zeros where there are
// none.
HWY_ATTR void pair_coefficients(const std::int16_t* from, std::size_t rank, std::size_t n, std::size_t t,
                                std::int32_t* out) {
  const hn::FixedTag<std::int16_t, kTile> d16;
  const hn::FixedTag<std::int32_t, kTile / 2> d32;
  const std::size_t count = std::min(kTile, n - t);
  const auto row = [&](std::size_t i) HWY_ATTR {
    if (i >= rank) return hn::Zero(d16);
    return count == kTile ? hn::LoadU(d16, from + i * n + t) : hn::LoadN(d16, from + i * n + t, count);
  };
  for (std::size_t i = 0; i < rank; i += 2, out += kTile) {
    const auto low = row(i);
    const auto high = row(i + 1);
    hn::StoreU(hn::BitCast(d32, hn::InterleaveWholeLower(d16, low, high)), d32, out);
    hn::StoreU(hn::BitCast(d32, hn::InterleaveWholeUpper(d16, low, high)), d32, out + kTile / 2);
  }
}

// Columns [k, k + lanes) of up to kTile rows. Returns the largest magnitudes, lane by lane.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V tile(D df, const Head& head, const std::int32_t* coefficients, std::size_t k, std::size_t count, float* out,
                  std::size_t stride) {
  const hn::RebindToSigned<D> d32;
  const hn::Repartition<std::int16_t, D> d16;
  const auto add = [&](auto sum, auto direction, std::int32_t coefficient) HWY_ATTR {
    const auto both = hn::BitCast(d16, hn::Set(d32, coefficient));
#if HWY_TARGET <= HWY_AVX3_DL  // one instruction there; it saturates, but no sum leaves 32 bits
    return hn::SatWidenMulPairwiseAccumulate(d32, direction, both, sum);
#else
    return hn::Add(sum, hn::WidenMulPairwiseAdd(d32, direction, both));
#endif
  };
  const auto start = hn::LoadU(d32, head.offset + k);
  auto s0 = start, s1 = start, s2 = start, s3 = start, s4 = start, s5 = start, s6 = start, s7 = start;
  for (std::size_t p = 0; p < (head.rank + 1) / 2; ++p) {
    const auto direction = hn::BitCast(d16, hn::LoadU(d32, head.directions + p * head.padded + k));
    const std::int32_t* c = coefficients + p * kTile;
    s0 = add(s0, direction, c[0]);
    s1 = add(s1, direction, c[1]);
    s2 = add(s2, direction, c[2]);
    s3 = add(s3, direction, c[3]);
    s4 = add(s4, direction, c[4]);
    s5 = add(s5, direction, c[5]);
    s6 = add(s6, direction, c[6]);
    s7 = add(s7, direction, c[7]);
  }
  const std::size_t columns = std::min(hn::Lanes(df), head.width - k);
  const auto unit = hn::LoadU(df, head.units + k);
  auto largest = hn::Zero(df);
  std::size_t row = 0;
  const auto put = [&](auto sum) HWY_ATTR {
    if (row == count) return;
    const auto values = hn::Mul(hn::ConvertTo(df, sum), unit);
    largest = hn::Max(largest, hn::Abs(values));
    float* to = out + row++ * stride;
    columns == hn::Lanes(df) ? hn::StoreU(values, df, to) : hn::StoreN(values, df, to, columns);
  };
  put(s0), put(s1), put(s2), put(s3), put(s4), put(s5), put(s6), put(s7);
  return largest;
}

HWY_ATTR float synthesize(const Head& head, const std::int16_t* coefficients, std::size_t n, float* out,
                          std::size_t stride) {
  const hn::ScalableTag<float> df;
  std::vector<std::int32_t> pairs((head.rank + 1) / 2 * kTile);
  auto largest = hn::Zero(df);
  for (std::size_t t = 0; t < n; t += kTile) {
    pair_coefficients(coefficients, head.rank, n, t, pairs.data());
    for (std::size_t k = 0; k < head.width; k += hn::Lanes(df)) {
      largest = hn::Max(largest, tile(df, head, pairs.data(), k, std::min(kTile, n - t), out + t * stride + k, stride));
    }
  }
  return hn::ReduceMax(df, largest);
}

}  // namespace HWY_NAMESPACE
}  // namespace celslm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace celslm {
namespace {

HWY_EXPORT(synthesize);

constexpr std::size_t kWidestVector = 64;  // 32-bit lanes: SVE's and RVV's largest in use, and a multiple of all others

std::int32_t pair_of(std::int16_t low, std::int16_t high) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint16_t>(low)) |
                                   static_cast<std::uint32_t>(static_cast<std::uint16_t>(high)) << 16);
}

}  // namespace

Synthesizer::Synthesizer(std::span<const std::int8_t> directions, std::span<const std::int32_t> offset,
                         std::span<const float> units)
    : rank_(directions.size() / offset.size()),
      width_(offset.size()),
      padded_((width_ + kWidestVector - 1) / kWidestVector * kWidestVector),
      directions_((rank_ + 1) / 2 * padded_),
      offset_(offset.begin(), offset.end()),
      units_(units.begin(), units.end()) {
  offset_.resize(padded_);
  units_.resize(padded_);
  for (std::size_t i = 0; i < rank_; i += 2) {
    for (std::size_t k = 0; k < width_; ++k) {
      const int high = i + 1 < rank_ ? directions[(i + 1) * width_ + k] : 0;
      directions_[i / 2 * padded_ + k] = pair_of(directions[i * width_ + k], static_cast<std::int16_t>(high));
    }
  }
}

float Synthesizer::rows(std::span<const std::int16_t> coefficients, std::size_t n, float* out, std::size_t stride) const {
  return HWY_DYNAMIC_DISPATCH(synthesize)({.directions = directions_.data(),
                                           .offset = offset_.data(),
                                           .units = units_.data(),
                                           .rank = rank_,
                                           .width = width_,
                                           .padded = padded_},
                                          coefficients.data(), n, out, stride);
}

}  // namespace celslm
#endif  // HWY_ONCE
