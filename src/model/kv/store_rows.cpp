// Many rows at once into a segment, for what arrives from elsewhere: the arithmetic of kv_rows.cpp, step by step the same,
// with everything between a row's load and its store in registers.
#include <algorithm>
#include <cstdint>

#include "model/kv/kv_rows.h"

// Highway compiles everything below once per instruction set and picks one at run time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/kv/store_rows.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#ifndef CELSLM_MODEL_STORE_ROWS  // this file is read once per instruction set
#define CELSLM_MODEL_STORE_ROWS
namespace celslm {

// One row of K of a head, for a segment of f16.
struct KeyRow {
  const float* k;
  const float* bias;  // or null
  RopeAngles angles;
  std::size_t n_pairs;
  std::size_t width;   // head_dim; values behind the pairs are not rotated
  std::uint16_t* out;  // [width]
};

}  // namespace celslm
#endif

HWY_BEFORE_NAMESPACE();
namespace celslm {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
using D16 = hn::Rebind<hwy::float16_t, D>;
using Bits = hn::RebindToUnsigned<D16>;

// Rounded to f16 and back, then with the bias.
HWY_INLINE hn::Vec<D> complete(hn::Vec<D> k, const float* bias, std::size_t at) {
  const D d;
  const auto rounded = hn::PromoteTo(d, hn::DemoteTo(D16(), k));
  return bias == nullptr ? rounded : hn::Add(rounded, hn::LoadU(d, bias + at));
}

HWY_INLINE hn::Vec<Bits> to_bits(hn::Vec<D> v) {
  return hn::BitCast(Bits(), hn::DemoteTo(D16(), v));
}

HWY_INLINE hn::Vec<Bits> magnitude(hn::Vec<Bits> bits) {
  return hn::And(bits, hn::Set(Bits(), 0x7FFF));
}

// The pairs (i, i + n_pairs), or (2i, 2i + 1). n_pairs is a multiple of the vectors' lanes. The largest bits written.
template <bool kNeox>
HWY_INLINE hn::Vec<Bits> rotate(const KeyRow& row, hn::Vec<Bits> largest) {
  const D d;
  const Bits bits;
  for (std::size_t i = 0; i < row.n_pairs; i += hn::Lanes(d)) {
    hn::Vec<D> x;
    hn::Vec<D> y;
    if constexpr (kNeox) {
      x = complete(hn::LoadU(d, row.k + i), row.bias, i);
      y = complete(hn::LoadU(d, row.k + i + row.n_pairs), row.bias, i + row.n_pairs);
    } else {
      hn::LoadInterleaved2(d, row.k + 2 * i, x, y);
      x = complete(x, nullptr, 0);
      y = complete(y, nullptr, 0);
      if (row.bias != nullptr) {
        hn::Vec<D> bx;
        hn::Vec<D> by;
        hn::LoadInterleaved2(d, row.bias + 2 * i, bx, by);
        x = hn::Add(x, bx);
        y = hn::Add(y, by);
      }
    }
    const auto cos = hn::LoadU(d, row.angles.cos + i);
    const auto sin = hn::LoadU(d, row.angles.sin + i);
    const auto a = to_bits(hn::Sub(hn::Mul(x, cos), hn::Mul(y, sin)));
    const auto b = to_bits(hn::Add(hn::Mul(x, sin), hn::Mul(y, cos)));
    largest = hn::Max(largest, hn::Max(magnitude(a), magnitude(b)));
    if constexpr (kNeox) {
      hn::StoreU(a, bits, row.out + i);
      hn::StoreU(b, bits, row.out + i + row.n_pairs);
    } else {
      hn::StoreInterleaved2(a, b, bits, row.out + 2 * i);
    }
  }
  return largest;
}

// False, with nothing written, for rows that do not consist of complete vectors.
HWY_ATTR bool store_key_row(const KeyRow& row, bool neox, std::uint16_t& largest) {
  const D d;
  const std::size_t lanes = hn::Lanes(d);
  if (row.n_pairs % lanes != 0 || row.width % lanes != 0) return false;
  auto most = hn::Zero(Bits());
  most = neox ? rotate<true>(row, most) : rotate<false>(row, most);
  for (std::size_t i = 2 * row.n_pairs; i < row.width; i += lanes) {
    const auto bits = to_bits(complete(hn::LoadU(d, row.k + i), row.bias, i));
    most = hn::Max(most, magnitude(bits));
    hn::StoreU(bits, Bits(), row.out + i);
  }
  largest = std::max(largest, hn::ReduceMax(Bits(), most));
  return true;
}

}  // namespace HWY_NAMESPACE
}  // namespace celslm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace celslm {
namespace {

HWY_EXPORT(store_key_row);

constexpr std::uint16_t kF16Infinity = 0x7C00;

}  // namespace

bool place_key(const KvRows& rows, const Rope& rope, int head, int row, const float* k, RopeAngles angles, float* scratch) {
  if (rows.type != KvType::kF16 || rows.k_gain != nullptr) return store_key(rows, rope, head, row, k, angles, scratch);
  const auto n = static_cast<std::size_t>(rows.head_dim);
  std::uint16_t largest = 0;
  const bool placed =
      HWY_DYNAMIC_DISPATCH(store_key_row)({.k = k,
                                           .bias = rows.k_bias ? rows.k_bias + static_cast<std::size_t>(head) * n : nullptr,
                                           .angles = angles,
                                           .n_pairs = static_cast<std::size_t>(rope.n_pairs()),
                                           .width = n,
                                           .out = reinterpret_cast<std::uint16_t*>(key_row(rows, head, row))},
                                          rope.neox(), largest);
  return placed ? largest < kF16Infinity : store_key(rows, rope, head, row, k, angles, scratch);
}

}  // namespace celslm
#endif  // HWY_ONCE
