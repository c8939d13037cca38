// 32 values to 8 bits, as ggml's Q8_0 does.
#if defined(CELSLM_Q8_ROUND_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CELSLM_Q8_ROUND_INL_H_
#undef CELSLM_Q8_ROUND_INL_H_
#else
#define CELSLM_Q8_ROUND_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "model/numeric/q8_0.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::q8_detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Returns the scale: the largest becomes 127 or -127.
HWY_INLINE float round_block(const float* HWY_RESTRICT in, std::int8_t* HWY_RESTRICT out) {
  const hn::CappedTag<float, 16> f32;
  const hn::Rebind<std::int8_t, decltype(f32)> i8;
  const std::size_t lanes = hn::Lanes(f32);
  auto largest = hn::Zero(f32);
  for (std::size_t i = 0; i < kQ8Values; i += lanes) largest = hn::Max(largest, hn::Abs(hn::LoadU(f32, in + i)));
  const float scale = hn::ReduceMax(f32, largest) / 127.0F;
  const auto inverse = hn::Set(f32, scale > 0.0F ? 1.0F / scale : 0.0F);
  for (std::size_t i = 0; i < kQ8Values; i += lanes)
    hn::StoreU(hn::DemoteTo(i8, hn::NearestInt(hn::Mul(hn::LoadU(f32, in + i), inverse))), i8, out + i);
  return scale;
}

}  // namespace celslm::q8_detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
