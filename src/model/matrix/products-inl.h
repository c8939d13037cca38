// What the integer products are made of: to each sum of 32 bits, four products of a weight's byte and an activation's.
#if defined(CELSLM_PACKED_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CELSLM_PACKED_PRODUCTS_INL_H_
#undef CELSLM_PACKED_PRODUCTS_INL_H_
#else
#define CELSLM_PACKED_PRODUCTS_INL_H_
#endif

#include "hwy/highway.h"

#if HWY_ARCH_ARM_A64
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace celslm::packed_detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// No vector is wider than a panel has lanes to give: 16 rows of 4 bytes.
using F32 = hn::CappedTag<float, 16>;
using I32 = hn::RebindToSigned<F32>;
using U8 = hn::Repartition<std::uint8_t, F32>;
using I8 = hn::RebindToSigned<U8>;
using VI = hn::Vec<I32>;

// x86 multiplies unsigned bytes by signed ones; Arm signed ones by signed ones, and where there is a choice, unsigned ones
// cost it three instructions instead of one.
inline constexpr bool kSignedWeights = HWY_ARCH_ARM_A64;

// Highway's targets for Arm have dot products only together with bf16. Processors with the former alone (Cortex-A75 to A78,
// Neoverse N1; a Raspberry Pi 5) run the code for those with neither, and ask.
inline constexpr bool kDotsAreOptional = HWY_ARCH_ARM_A64 && HWY_TARGET > HWY_NEON_BF16;

HWY_INLINE bool has_dots() {
#if HWY_ARCH_ARM_A64
  return (::getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}

// w: signed bytes if kSignedWeights. x: from -127 to 127. kDots: only where kDotsAreOptional and the processor has them.
template <bool kDots>
HWY_INLINE VI add_products(hn::Vec<U8> w, hn::Vec<I8> x, VI sums) {
#if HWY_ARCH_ARM_A64
  const auto weights = hn::BitCast(I8(), w);
  if constexpr (kDots) {
    __asm__(".arch_extension dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(sums.raw) : "w"(weights.raw), "w"(x.raw));
    return sums;
  } else if constexpr (kDotsAreOptional) {
    // Two products fit into 16 bits: -128 * 127 * 2. Highway's own way, for any bytes, takes three times as many
    // instructions.
    const int16x8_t low = vmull_s8(vget_low_s8(weights.raw), vget_low_s8(x.raw));
    const int16x8_t high = vmull_high_s8(weights.raw, x.raw);
    return VI(vpadalq_s16(sums.raw, vpaddq_s16(low, high)));
  } else {
    return hn::SumOfMulQuadAccumulate(I32(), weights, x, sums);
  }
#else
  return hn::SumOfMulQuadAccumulate(I32(), w, x, sums);
#endif
}

}  // namespace celslm::packed_detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
