// From a panel as it is kept to bytes and factors that the product takes.
#if defined(CELSLM_UNPACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CELSLM_UNPACK_INL_H_
#undef CELSLM_UNPACK_INL_H_
#else
#define CELSLM_UNPACK_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "model/matrix/panel.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::packed_detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Plane = hn::CappedTag<std::uint8_t, 64>;
using VPlane = hn::Vec<Plane>;

// The two bits of quad `kAt` of four, shifted to bits 4 and 5.
template <int kAt>
HWY_INLINE VPlane upper_two(VPlane plane) {
  const VPlane bits = hn::And(plane, hn::Set(Plane(), static_cast<std::uint8_t>(3 << (2 * kAt))));
  if constexpr (kAt == 0) return hn::ShiftLeft<4>(bits);
  if constexpr (kAt == 1) return hn::ShiftLeft<2>(bits);
  if constexpr (kAt == 3) return hn::ShiftRight<2>(bits);
  return bits;
}

// Bit `at` of each byte as `value`.
HWY_INLINE VPlane bit_as(VPlane plane, int at, int value) {
  const Plane u8;
  return hn::IfThenElseZero(hn::TestBit(plane, hn::Set(u8, static_cast<std::uint8_t>(1 << at))),
                            hn::Set(u8, static_cast<std::uint8_t>(value)));
}

// The codes of a quad; `at`: of the byte within its rows' bytes.
template <Layout kLayout, int kQuadNumber>
HWY_INLINE VPlane codes_of(const std::uint8_t* planes, std::size_t at) {
  const Plane u8;
  constexpr int kPair = kQuadNumber % 4;
  constexpr int kFour = kQuadNumber / 4;
  if constexpr (kLayout.bits >= 4) {
    const VPlane both = hn::LoadU(u8, planes + kPair * kQuadBytes + at);
    const VPlane low = kFour == 0 ? hn::And(both, hn::Set(u8, 0xF)) : hn::ShiftRight<4>(both);
    const std::uint8_t* upper = planes + 4 * kQuadBytes + at;
    if constexpr (kLayout.bits == 5) return hn::Or(low, bit_as(hn::LoadU(u8, upper), kQuadNumber, 16));
    if constexpr (kLayout.bits == 6) return hn::Or(low, upper_two<kPair>(hn::LoadU(u8, upper + kFour * kQuadBytes)));
    return low;
  } else {
    const VPlane four = hn::LoadU(u8, planes + kFour * kQuadBytes + at);
    const VPlane low = hn::And(hn::ShiftRight<2 * kPair>(four), hn::Set(u8, 3));
    if constexpr (kLayout.bits == 3) return hn::Or(low, bit_as(hn::LoadU(u8, planes + 2 * kQuadBytes + at), kQuadNumber, 4));
    return low;
  }
}

// Values plus 128 where a code has an offset or a table, else codes.
template <Layout kLayout>
HWY_INLINE VPlane value_of(VPlane code) {
  const Plane u8;
  if constexpr (kLayout.has_table) {
    const auto table = hn::LoadDup128(hn::RebindToSigned<Plane>(), kLayout.table.data());
    return hn::Xor(hn::BitCast(u8, hn::TableLookupBytes(table, hn::BitCast(hn::RebindToSigned<Plane>(), code))),
                   hn::Set(u8, 0x80));
  } else if constexpr (kLayout.mins) {
    return code;
  } else {
    return hn::Add(code, hn::Set(u8, static_cast<std::uint8_t>(128 - kLayout.offset)));
  }
}

using FF = hn::CappedTag<float, 16>;
using IF = hn::RebindToSigned<FF>;

HWY_INLINE hn::Vec<FF> halves(const std::uint8_t* at, std::size_t row) {
  const hn::Rebind<hwy::float16_t, FF> f16;
  return hn::PromoteTo(FF(), hn::LoadU(f16, reinterpret_cast<const hwy::float16_t*>(at) + row));
}

HWY_INLINE hn::Vec<IF> bytes(const std::uint8_t* at) {
  return hn::PromoteTo(IF(), hn::LoadU(hn::Rebind<std::uint8_t, FF>(), at));
}

HWY_INLINE hn::Vec<FF> signed_bytes(const std::uint8_t* at) {
  const hn::Rebind<std::int8_t, FF> i8;
  return hn::ConvertTo(FF(), hn::PromoteTo(IF(), hn::LoadU(i8, reinterpret_cast<const std::int8_t*>(at))));
}

// 2^(byte - 128), below 2^-126 as a denormal number.
HWY_INLINE hn::Vec<FF> exponents(const std::uint8_t* at) {
  const IF i32;
  const auto e = bytes(at);
  const auto normal = hn::ShiftLeft<23>(hn::Sub(e, hn::Set(i32, 1)));
  const auto denormal = hn::IfThenElse(hn::Eq(e, hn::Zero(i32)), hn::Set(i32, 0x00200000), hn::Set(i32, 0x00400000));
  return hn::BitCast(FF(), hn::IfThenElse(hn::Lt(e, hn::Set(i32, 2)), denormal, normal));
}

template <Scaling kScaling>
HWY_INLINE hn::Vec<FF> scale_of(const std::uint8_t* half_scales, std::size_t row, const std::uint8_t* scales) {
  const FF f32;
  const IF i32;
  if constexpr (kScaling == Scaling::kExponent) return exponents(scales);
  const auto scale = halves(half_scales, row);
  if constexpr (kScaling == Scaling::kSigned) return hn::Mul(scale, signed_bytes(scales));
  if constexpr (kScaling == Scaling::kUnsigned) return hn::Mul(scale, hn::ConvertTo(f32, bytes(scales)));
  if constexpr (kScaling == Scaling::kNibbles)
    return hn::Mul(scale, hn::ConvertTo(f32, hn::And(bytes(scales), hn::Set(i32, 15))));
  return scale;
}

template <Scaling kScaling>
HWY_INLINE hn::Vec<FF> min_of(const std::uint8_t* half_mins, std::size_t row, const std::uint8_t* scales,
                              const std::uint8_t* mins) {
  const FF f32;
  const auto min = halves(half_mins, row);
  if constexpr (kScaling == Scaling::kUnsigned) return hn::Neg(hn::Mul(min, hn::ConvertTo(f32, bytes(mins))));
  if constexpr (kScaling == Scaling::kNibbles)
    return hn::Neg(hn::Mul(min, hn::ConvertTo(f32, hn::ShiftRight<4>(bytes(scales)))));
  return min;
}

// So many bytes on, panels are asked for from memory: with one token that is what products wait for, and hardware does not
// follow a path over several planes well.
inline constexpr std::size_t kAhead = 4096;

HWY_INLINE void prefetch(const std::uint8_t* at, std::size_t n) {
  for (std::size_t line = 0; line < n; line += 64) hwy::Prefetch(at + line);
}

// A block of a panel as it is kept. Rows are those of the panel, from `row` on as many as a vector of floats takes.
template <Layout kLayout>
class PackedBlock {
 public:
  HWY_INLINE PackedBlock(const std::uint8_t* panel, std::size_t number) {
    constexpr auto kGroup = static_cast<std::size_t>(kLayout.group);
    group_ = panel + number / kGroup * kLayout.group_bytes();
    block_ = group_ + number % kGroup * kLayout.block_bytes();
    prefetch(block_ + kAhead, kLayout.group_bytes() / kGroup);
  }

  // What products take of a quad's values.
  template <int kQuadNumber>
  HWY_INLINE VPlane values(std::size_t row) const {
    if constexpr (kLayout.bits == 8)
      return hn::LoadU(Plane(), block_ + kQuadNumber * kQuadBytes + row * kQuad);
    else
      return value_of<kLayout>(codes_of<kLayout, kQuadNumber>(block_, row * kQuad));
  }

  HWY_INLINE hn::Vec<FF> scale(int part, std::size_t row) const {
    return scale_of<kLayout.scaling>(halves_of_scales(), row, block_ + kLayout.scales_at() + of_part(part, row));
  }

  HWY_INLINE hn::Vec<FF> min(int part, std::size_t row) const {
    const std::size_t at = of_part(part, row);
    const std::uint8_t* half_mins = halves_of_scales() + kRows * sizeof(std::uint16_t);
    return min_of<kLayout.scaling>(half_mins, row, block_ + kLayout.scales_at() + at, block_ + kLayout.mins_at() + at);
  }

 private:
  HWY_INLINE static std::size_t of_part(int part, std::size_t row) { return static_cast<std::size_t>(part) * kRows + row; }
  HWY_INLINE const std::uint8_t* halves_of_scales() const { return group_ + kLayout.halves_at(); }

  const std::uint8_t* group_;
  const std::uint8_t* block_;
};

// The same once it is unpacked: [kBlockValues] values and its factors.
template <Layout kLayout>
class UnpackedBlock {
 public:
  HWY_INLINE UnpackedBlock(const std::uint8_t* values, const Factors& factors) : values_(values), factors_(&factors) {}

  template <int kQuadNumber>
  HWY_INLINE VPlane values(std::size_t row) const {
    return hn::LoadU(Plane(), values_ + kQuadNumber * kQuadBytes + row * kQuad);
  }
  HWY_INLINE hn::Vec<FF> scale(int part, std::size_t row) const { return hn::Load(FF(), factors_->scales[part] + row); }
  HWY_INLINE hn::Vec<FF> min(int part, std::size_t row) const { return hn::Load(FF(), factors_->mins[part] + row); }

 private:
  const std::uint8_t* values_;
  const Factors* factors_;
};

template <Layout kLayout, int kQuadNumber = 0>
HWY_INLINE void unpack_values(const PackedBlock<kLayout>& from, std::uint8_t* HWY_RESTRICT values) {
  if constexpr (kQuadNumber < kQuads) {
    for (std::size_t row = 0; row < kRows; row += hn::Lanes(FF()))
      hn::Store(from.template values<kQuadNumber>(row), Plane(), values + kQuadNumber * kQuadBytes + row * kQuad);
    unpack_values<kLayout, kQuadNumber + 1>(from, values);
  }
}

template <Layout kLayout>
HWY_INLINE void unpack_factors(const PackedBlock<kLayout>& from, Factors& out) {
  for (int part = 0; part < kLayout.parts; ++part) {
    for (std::size_t row = 0; row < kRows; row += hn::Lanes(FF())) {
      hn::Store(from.scale(part, row), FF(), out.scales[part] + row);
      if constexpr (kLayout.mins) hn::Store(from.min(part, row), FF(), out.mins[part] + row);
    }
  }
}

// `n` blocks of a panel from number `first` on. values: [n][kBlockValues], not written where they lie in the panel as they
// are taken (8 bits).
template <Layout kLayout>
void unpack(const std::uint8_t* panel, std::size_t first, std::size_t n, std::uint8_t* values, Factors* factors) {
  for (std::size_t i = 0; i < n; ++i) {
    const PackedBlock<kLayout> block(panel, first + i);
    if constexpr (kLayout.bits != 8) unpack_values<kLayout>(block, values + i * kBlockValues);
    unpack_factors<kLayout>(block, factors[i]);
  }
}

}  // namespace celslm::packed_detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
