#include "model/numeric/logits.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/numeric/logits.cpp"
// clang-format off: the order matters
#include <hwy/foreach_target.h>  // compiles the part below once per instruction set
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace celslm::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// A vocabulary has some 10^5 entries and this runs for every token generated: libm's exp would take a millisecond.
float sum_exp(const float* values, std::size_t n, float max) {
  const hn::ScalableTag<float> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto shift = hn::Set(d, max);
  auto sum = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) sum = hn::Add(sum, hn::Exp(d, hn::Sub(hn::LoadU(d, values + i), shift)));
  float rest = 0.0F;
  for (; i < n; ++i) rest += std::exp(values[i] - max);
  return hn::ReduceSum(d, sum) + rest;
}

float largest(const float* values, std::size_t n) {
  const hn::ScalableTag<float> d;
  const std::size_t lanes = hn::Lanes(d);
  auto max = hn::Set(d, values[0]);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) max = hn::Max(max, hn::LoadU(d, values + i));
  float out = hn::ReduceMax(d, max);
  for (; i < n; ++i) out = std::max(out, values[i]);
  return out;
}

}  // namespace celslm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace celslm {
namespace {

HWY_EXPORT(sum_exp);
HWY_EXPORT(largest);

}  // namespace

std::size_t argmax(std::span<const float> values) {
  const float max = HWY_DYNAMIC_DISPATCH(largest)(values.data(), values.size());
  const auto at = std::ranges::find(values, max);
  return at == values.end() ? 0 : static_cast<std::size_t>(at - values.begin());  // all NaN: any is as good
}

float log_sum_exp(std::span<const float> values) {
  const float max = HWY_DYNAMIC_DISPATCH(largest)(values.data(), values.size());
  return max + std::log(HWY_DYNAMIC_DISPATCH(sum_exp)(values.data(), values.size(), max));
}

}  // namespace celslm
#endif
