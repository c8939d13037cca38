// 2^x for x <= 0, the only exponential of a running softmax.
#if defined(CELSLM_ATTENTION_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CELSLM_ATTENTION_EXP2_INL_H_
#undef CELSLM_ATTENTION_EXP2_INL_H_
#else
#define CELSLM_ATTENTION_EXP2_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::attention_detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Relative error below 3e-7 (9e-8 of it the polynomial's); exactly 1 at 0; exactly 0 below -126, so that a masked score
// (-inf) leaves no trace. NaN gives 0. 2^x = 2^n * 2^f, n the nearest integer, |f| <= 1/2: a minimax polynomial for 2^f, n
// added to its exponent. hwy's Exp2 guards the complete range of x and takes 50 % longer.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_nonpositive(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, 12582912.0F);  // 1.5 * 2^23: adding it leaves round(x) in the low bits of the mantissa
  const V shifted = hn::Add(x, magic);
  const V f = hn::Sub(x, hn::Sub(shifted, magic));
  V p = hn::Set(d, 0.0013264726701F);
  p = hn::MulAdd(p, f, hn::Set(d, 0.0096715126769F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0555073374490F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.2402224208456F));
  p = hn::MulAdd(p, f, hn::Set(d, 0.6931469775980F));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0F));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const V scaled = hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -126.0F)), scaled);
}

}  // namespace celslm::attention_detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
