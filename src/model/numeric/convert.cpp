#include "model/numeric/convert.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

// Highway compiles everything below once per instruction set and picks one at run time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/numeric/convert.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "model/numeric/round-inl.h"

HWY_BEFORE_NAMESPACE();
namespace celslm {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::uint16_t kF16Infinity = 0x7C00;
constexpr std::uint16_t kBf16Infinity = 0x7F80;

// Calls f(i, count) for steps of `lanes` over [0, n); only the last count may be smaller.
template <typename F>
HWY_INLINE void for_steps(std::size_t n, std::size_t lanes, const F& f) {
  for (std::size_t i = 0; i < n; i += lanes) f(i, std::min(lanes, n - i));
}

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const hn::TFromD<D>* from, std::size_t count) {
  return count == hn::Lanes(d) ? hn::LoadU(d, from) : hn::LoadN(d, from, count);  // LoadN: zeros for the rest
}

template <class D>
HWY_INLINE void store(D d, hn::Vec<D> v, hn::TFromD<D>* to, std::size_t count) {
  count == hn::Lanes(d) ? hn::StoreU(v, d, to) : hn::StoreN(v, d, to, count);
}

HWY_ATTR bool F16FromF32(const float* in, std::byte* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> d16;
  const hn::RebindToUnsigned<decltype(d16)> du16;
  auto* bits = reinterpret_cast<std::uint16_t*>(out);
  auto worst = hn::Zero(du16);
  for_steps(n, hn::Lanes(d), [&](std::size_t i, std::size_t count) HWY_ATTR {
    const auto h = hn::BitCast(du16, hn::DemoteTo(d16, load(d, in + i, count)));
    store(du16, h, bits + i, count);
    worst = hn::Max(worst, hn::And(h, hn::Set(du16, 0x7FFF)));
  });
  return hn::AllTrue(du16, hn::Lt(worst, hn::Set(du16, kF16Infinity)));
}

HWY_ATTR bool F32FromF16(const std::byte* in, float* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> d16;
  const hn::RebindToUnsigned<decltype(d16)> du16;
  const auto* bits = reinterpret_cast<const std::uint16_t*>(in);
  auto worst = hn::Zero(du16);
  for_steps(n, hn::Lanes(d), [&](std::size_t i, std::size_t count) HWY_ATTR {
    const auto h = load(du16, bits + i, count);
    worst = hn::Max(worst, hn::And(h, hn::Set(du16, 0x7FFF)));
    store(d, hn::PromoteTo(d, hn::BitCast(d16, h)), out + i, count);
  });
  return hn::AllTrue(du16, hn::Lt(worst, hn::Set(du16, kF16Infinity)));
}

HWY_ATTR void F32ThroughF16(const float* in, float* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> d16;
  for_steps(n, hn::Lanes(d), [&](std::size_t i, std::size_t count) HWY_ATTR {
    store(d, hn::PromoteTo(d, hn::DemoteTo(d16, load(d, in + i, count))), out + i, count);
  });
}

// The upper half of each lane, rounded. In integers, because the instruction for it (AVX512-BF16) flushes subnormals to
// zero. A NaN keeps its sign and becomes quiet: rounding could turn it into an infinity.
template <class D>
HWY_INLINE hn::Vec<D> bf16_bits(D du32, hn::Vec<D> bits) {
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du32, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(hn::Set(du32, 0x7FFF), odd)));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du32, 0x40));
  const auto is_nan = hn::Gt(hn::And(bits, hn::Set(du32, 0x7FFFFFFF)), hn::Set(du32, 0x7F800000));
  return hn::IfThenElse(is_nan, quiet, rounded);
}

HWY_ATTR void F32ThroughBf16(const float* in, float* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du32;
  for_steps(n, hn::Lanes(d), [&](std::size_t i, std::size_t count) HWY_ATTR {
    const auto halves = bf16_bits(du32, hn::BitCast(du32, load(d, in + i, count)));
    store(d, hn::BitCast(d, hn::ShiftLeft<16>(halves)), out + i, count);
  });
}

HWY_ATTR bool Bf16FromF32(const float* in, std::byte* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du32;
  const hn::Rebind<std::uint16_t, decltype(d)> du16;
  auto* halves = reinterpret_cast<std::uint16_t*>(out);
  auto worst = hn::Zero(du32);
  for_steps(n, hn::Lanes(d), [&](std::size_t i, std::size_t count) HWY_ATTR {
    const auto bits = hn::BitCast(du32, load(d, in + i, count));
    worst = hn::Max(worst, hn::And(bits, hn::Set(du32, 0x7FFFFFFF)));
    store(du16, hn::DemoteTo(du16, bf16_bits(du32, bits)), halves + i, count);
  });
  return hn::AllTrue(du32, hn::Lt(worst, hn::Set(du32, std::bit_cast<std::uint32_t>(kBf16Limit))));
}

HWY_ATTR bool F32FromBf16(const std::byte* in, float* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du32;
  const hn::Rebind<std::uint16_t, decltype(d)> du16;
  const auto* halves = reinterpret_cast<const std::uint16_t*>(in);
  auto worst = hn::Zero(du16);
  for_steps(n, hn::Lanes(d), [&](std::size_t i, std::size_t count) HWY_ATTR {
    const auto h = load(du16, halves + i, count);
    worst = hn::Max(worst, hn::And(h, hn::Set(du16, 0x7FFF)));
    store(d, hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du32, h))), out + i, count);
  });
  return hn::AllTrue(du16, hn::Lt(worst, hn::Set(du16, kBf16Infinity)));
}

HWY_ATTR void Q8_0FromF32(const float* in, std::byte* out, std::size_t n) {
  for (std::size_t i = 0; i < n; i += kQ8Values, out += kQ8Bytes) {
    const float scale = q8_detail::HWY_NAMESPACE::round_block(in + i, reinterpret_cast<std::int8_t*>(out) + 2);
    const auto stored = hwy::F16FromF32(scale);
    std::memcpy(out, &stored, 2);
  }
}

HWY_INLINE float f32_of(std::uint16_t bits) {
  return hwy::F32FromF16(hwy::BitCastScalar<hwy::float16_t>(bits));
}

// The smallest f16 number s >= 0 with 127 * s >= largest. The division only finds the neighbourhood; the comparison, exact
// and in integers (order is the same for magnitudes), decides.
HWY_INLINE std::uint16_t q8_scale(float largest) {
  const auto covers = [largest](std::uint16_t bits) {
    return std::bit_cast<std::uint32_t>(127.0F * f32_of(bits)) >= std::bit_cast<std::uint32_t>(largest);
  };
  auto bits = hwy::BitCastScalar<std::uint16_t>(hwy::F16FromF32(largest / 127.0F));
  if (!covers(bits)) return static_cast<std::uint16_t>(bits + 1);
  return bits > 0 && covers(static_cast<std::uint16_t>(bits - 1)) ? static_cast<std::uint16_t>(bits - 1) : bits;
}

// The largest magnitude of n <= 32 values; as bits, in which NaN is greater than infinity, which is greater than the rest.
HWY_INLINE std::uint32_t largest_bits(const float* in, std::size_t n) {
  const hn::CappedTag<float, kQ8Group> d;
  const hn::RebindToUnsigned<decltype(d)> du32;
  auto largest = hn::Zero(du32);
  for_steps(n, hn::Lanes(d), [&](std::size_t i, std::size_t count) HWY_ATTR {
    largest = hn::Max(largest, hn::And(hn::BitCast(du32, load(d, in + i, count)), hn::Set(du32, 0x7FFFFFFF)));
  });
  return hn::ReduceMax(du32, largest);
}

HWY_INLINE void q8_codes(const float* in, float scale, std::int8_t* codes, std::size_t n) {
  const hn::CappedTag<float, kQ8Group> d;
  const hn::Rebind<std::int8_t, decltype(d)> di8;
  for_steps(n, hn::Lanes(d), [&](std::size_t i, std::size_t count) HWY_ATTR {
    const auto quotient = hn::Div(load(d, in + i, count), hn::Set(d, scale));
    store(di8, hn::DemoteTo(di8, hn::NearestInt(quotient)), codes + i, count);
  });
}

HWY_ATTR bool Q8FromF32(const float* in, std::byte* scales, std::byte* codes, std::size_t rows, std::size_t n) {
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < n; i += kQ8Group) {
      const std::size_t count = std::min(kQ8Group, n - i);
      const std::uint32_t largest = largest_bits(in + i, count);
      if (largest > std::bit_cast<std::uint32_t>(kQ8Largest)) return false;
      const std::uint16_t scale = q8_scale(std::bit_cast<float>(largest));
      std::memcpy(scales, &scale, sizeof scale);
      scales += sizeof scale;
      if (scale == 0) {
        std::memset(codes + i, 0, count);
      } else {
        q8_codes(in + i, f32_of(scale), reinterpret_cast<std::int8_t*>(codes + i), count);
      }
    }
    in += n;
    codes += n;
  }
  return true;
}

// Whether an encoder writes this scale for a group whose codes have this largest magnitude. Of a scale of k steps of f16's
// subnormal numbers it is known that k - 1 steps would not have been enough.
HWY_INLINE bool q8_plausible(std::uint16_t scale, int largest) {
  if (scale > hwy::BitCastScalar<std::uint16_t>(hwy::F16FromF32(kQ8LargestScale))) return false;  // negative ones, too
  if (scale >= 255) return largest == 127;
  const int k = scale;
  return k == 0 ? largest == 0 : largest <= 127 && largest >= (254 * (k - 1) + k) / (2 * k);
}

HWY_ATTR bool F32FromQ8(const std::byte* scales, const std::byte* codes, float* out, std::size_t rows, std::size_t n) {
  const hn::CappedTag<float, kQ8Group> d;
  const hn::RebindToSigned<decltype(d)> di32;
  const hn::Rebind<std::int8_t, decltype(d)> di8;
  const hn::Rebind<std::int16_t, decltype(d)> di16;
  bool plausible = true;
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < n; i += kQ8Group) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, scales, sizeof bits);
      scales += sizeof bits;
      const auto scale = hn::Set(d, f32_of(bits));
      auto largest = hn::Zero(di16);  // in 16 bits, where -128 has a magnitude
      const auto* from = reinterpret_cast<const std::int8_t*>(codes + i);
      for_steps(std::min(kQ8Group, n - i), hn::Lanes(d), [&](std::size_t j, std::size_t count) HWY_ATTR {
        const auto code = load(di8, from + j, count);
        largest = hn::Max(largest, hn::Abs(hn::PromoteTo(di16, code)));
        store(d, hn::Mul(hn::ConvertTo(d, hn::PromoteTo(di32, code)), scale), out + i + j, count);
      });
      plausible = plausible && q8_plausible(bits, hn::ReduceMax(di16, largest));
    }
    out += n;
    codes += n;
  }
  return plausible;
}

}  // namespace HWY_NAMESPACE
}  // namespace celslm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace celslm {

HWY_EXPORT(F16FromF32);
HWY_EXPORT(F32FromF16);
HWY_EXPORT(F32ThroughF16);
HWY_EXPORT(Bf16FromF32);
HWY_EXPORT(F32FromBf16);
HWY_EXPORT(F32ThroughBf16);
HWY_EXPORT(Q8_0FromF32);
HWY_EXPORT(Q8FromF32);
HWY_EXPORT(F32FromQ8);

bool f16_from_f32(const float* in, std::byte* out, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(F16FromF32)(in, out, n);
}
bool f32_from_f16(const std::byte* in, float* out, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(F32FromF16)(in, out, n);
}
bool bf16_from_f32(const float* in, std::byte* out, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(Bf16FromF32)(in, out, n);
}
bool f32_from_bf16(const std::byte* in, float* out, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(F32FromBf16)(in, out, n);
}
void f32_through_f16(const float* in, float* out, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(F32ThroughF16)(in, out, n);
}
void f32_through_bf16(const float* in, float* out, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(F32ThroughBf16)(in, out, n);
}
void q8_0_from_f32(const float* in, std::byte* out, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(Q8_0FromF32)(in, out, n);
}

bool q8_from_f32(const float* in, std::byte* scales, std::byte* codes, std::size_t rows, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(Q8FromF32)(in, scales, codes, rows, n);
}

bool f32_from_q8(const std::byte* scales, const std::byte* codes, float* out, std::size_t rows, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(F32FromQ8)(scales, codes, out, rows, n);
}

}  // namespace celslm
#endif  // HWY_ONCE
