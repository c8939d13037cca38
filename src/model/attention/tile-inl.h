// A tile of keys or values as f32, in the order in which the products read it.
#if defined(CELSLM_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CELSLM_ATTENTION_TILE_INL_H_
#undef CELSLM_ATTENTION_TILE_INL_H_
#else
#define CELSLM_ATTENTION_TILE_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "model/attention/tiling.h"
#include "model/numeric/q8_0.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::attention_detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
inline constexpr std::size_t kLanes = hn::MaxLanes(F32());  // exact: targets with vectors of unknown length are disabled
static_assert(kTile % kLanes == 0);

inline constexpr std::size_t rounded_up(std::size_t n, std::size_t to) {
  return (n + to - 1) / to * to;
}

// kLanes values of T at p as f32.
template <typename T>
HWY_INLINE hn::Vec<F32> load_f32(const T* p) {
  if constexpr (std::is_same_v<T, float>) {
    return hn::LoadU(F32(), p);
  } else {
    return hn::PromoteTo(F32(), hn::LoadU(hn::Rebind<T, F32>(), p));
  }
}

template <typename T>
HWY_INLINE hn::Vec<F32> load_f32(const T* p, std::size_t n) {  // the rest is zero
  if constexpr (std::is_same_v<T, float>) {
    return hn::LoadN(F32(), p, n);
  } else {
    return hn::PromoteTo(F32(), hn::LoadN(hn::Rebind<T, F32>(), p, n));
  }
}

// v: [n_keys][head_dim] -> out: [n_keys][width], width = head_dim rounded up to kLanes, padded with zeros.
template <typename T>
void convert_values(const T* v, std::size_t head_dim, std::size_t n_keys, std::size_t width, float* HWY_RESTRICT out) {
  for (std::size_t key = 0; key < n_keys; ++key, v += head_dim, out += width) {
    std::size_t d = 0;
    for (; d + kLanes <= head_dim; d += kLanes) hn::Store(load_f32(v + d), F32(), out + d);
    if (d < head_dim) hn::Store(load_f32(v + d, head_dim - d), F32(), out + d);
  }
}

// rows: [n_keys] of ggml's Q8_0 blocks -> out: [n_keys][width]. head_dim is a multiple of 32, and so of every vector.
HWY_INLINE void widen_q8(const std::byte* rows, std::size_t head_dim, std::size_t n_keys, std::size_t width,
                         float* HWY_RESTRICT out) {
  const hn::Rebind<std::int8_t, F32> i8;
  const hn::RebindToSigned<F32> i32;
  for (std::size_t key = 0; key < n_keys; ++key, out += width) {
    for (std::size_t d = 0; d < head_dim; d += kQ8Values, rows += kQ8Bytes) {
      hwy::float16_t stored;
      hwy::CopyBytes<2>(rows, &stored);
      const auto scale = hn::Set(F32(), hwy::F32FromF16(stored));
      const auto* const values = reinterpret_cast<const std::int8_t*>(rows) + 2;
      for (std::size_t i = 0; i < kQ8Values; i += kLanes) {
        const auto widened = hn::ConvertTo(F32(), hn::PromoteTo(i32, hn::LoadU(i8, values + i)));
        hn::StoreU(hn::Mul(widened, scale), F32(), out + d + i);
      }
    }
  }
}

#if HWY_TARGET == HWY_SCALAR

// Keys [first, n_keys) of k: [n_keys][head_dim] -> out: [head_dim][kTile]
template <typename T>
void transpose_keys(const T* k, std::size_t head_dim, std::size_t first, std::size_t n_keys, float* HWY_RESTRICT out) {
  for (std::size_t key = first; key < n_keys; ++key) {
    for (std::size_t d = 0; d < head_dim; ++d) out[d * kTile + key] = hn::GetLane(load_f32(k + key * head_dim + d));
  }
}

#else

// Words of 32 bits: one f32 dimension of a key, or two 16-bit ones.
using U32 = hn::Repartition<std::uint32_t, F32>;
using Words = hn::Vec<U32>;

// The 128-bit block b of the result is the four words at base + offsets[4 * b].
template <class D>
HWY_INLINE hn::Vec<D> gather_blocks(D d, const std::uint32_t* base, const std::size_t* offsets) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return hn::LoadU(d, base + *offsets);
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, gather_blocks(half, base, offsets + hn::MaxLanes(half)), gather_blocks(half, base, offsets));
  }
}

// Four words of kLanes keys, base[offsets[key] + 0..3], transposed: out[w] holds word w of the keys in order.
HWY_INLINE void transpose_4_words(const std::uint32_t* base, const std::size_t* offsets, Words& w0, Words& w1, Words& w2,
                                  Words& w3) {
  const U32 d;
  const hn::Repartition<std::uint64_t, U32> d64;
  const Words a = gather_blocks(d, base, offsets);
  const Words b = gather_blocks(d, base, offsets + 1);
  const Words c = gather_blocks(d, base, offsets + 2);
  const Words e = gather_blocks(d, base, offsets + 3);
  const auto ab_lower = hn::BitCast(d64, hn::InterleaveLower(d, a, b));
  const auto ab_upper = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
  const auto ce_lower = hn::BitCast(d64, hn::InterleaveLower(d, c, e));
  const auto ce_upper = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
  w0 = hn::BitCast(d, hn::InterleaveLower(d64, ab_lower, ce_lower));
  w1 = hn::BitCast(d, hn::InterleaveUpper(d64, ab_lower, ce_lower));
  w2 = hn::BitCast(d, hn::InterleaveLower(d64, ab_upper, ce_upper));
  w3 = hn::BitCast(d, hn::InterleaveUpper(d64, ab_upper, ce_upper));
}

// One word of kLanes keys, as one row of the transposed tile or, for 16-bit types, two.
HWY_INLINE void store_word(Words w, const float* /*type*/, float* HWY_RESTRICT out) {
  hn::Store(hn::BitCast(F32(), w), F32(), out);
}
HWY_INLINE void store_word(Words w, const hwy::bfloat16_t* /*type*/, float* HWY_RESTRICT out) {
  hn::Store(hn::BitCast(F32(), hn::ShiftLeft<16>(w)), F32(), out);
  hn::Store(hn::BitCast(F32(), hn::And(w, hn::Set(U32(), 0xFFFF0000U))), F32(), out + kTile);
}
HWY_INLINE void store_word(Words w, const hwy::float16_t* /*type*/, float* HWY_RESTRICT out) {
  const hn::Rebind<std::uint16_t, U32> d16;
  const hn::Rebind<hwy::float16_t, U32> df16;
  const auto lower = hn::BitCast(df16, hn::TruncateTo(d16, w));
  const auto upper = hn::BitCast(df16, hn::TruncateTo(d16, hn::ShiftRight<16>(w)));
  hn::Store(hn::PromoteTo(F32(), lower), F32(), out);
  hn::Store(hn::PromoteTo(F32(), upper), F32(), out + kTile);
}

// Keys [first, n_keys) of k: [n_keys][head_dim] -> out: [head_dim][kTile]. Columns beside them up to a multiple of kLanes
// repeat the first or the last key, those further away are not written. Words are transposed first and converted after: half
// the shuffles for 16-bit types.
template <typename T>
void transpose_keys(const T* k, std::size_t head_dim, std::size_t first, std::size_t n_keys, float* HWY_RESTRICT out) {
  constexpr std::size_t kPerWord = sizeof(std::uint32_t) / sizeof(T);
  const auto* words = reinterpret_cast<const std::uint32_t*>(k);
  std::array<std::size_t, kLanes> offsets;
  for (std::size_t key = first / kLanes * kLanes; key < n_keys; key += kLanes) {
    for (std::size_t i = 0; i < kLanes; ++i) offsets[i] = std::clamp(key + i, first, n_keys - 1) * (head_dim / kPerWord);
    for (std::size_t d = 0; d < head_dim; d += 4 * kPerWord) {
      Words w0, w1, w2, w3;
      transpose_4_words(words + d / kPerWord, offsets.data(), w0, w1, w2, w3);
      float* const to = out + d * kTile + key;
      store_word(w0, k, to);
      store_word(w1, k, to + 1 * kPerWord * kTile);
      store_word(w2, k, to + 2 * kPerWord * kTile);
      store_word(w3, k, to + 3 * kPerWord * kTile);
    }
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace celslm::attention_detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
