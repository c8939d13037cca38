#include "bench/cpp/peak.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_ALL_SVE | HWY_RVV | HWY_SSSE3)
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/cpp/peak.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
//
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kChains = 12;  // independent sums, more than the instruction's latency needs

// Returns the products made.
double many_products(std::int64_t rounds, std::int32_t& result) {
  const hn::CappedTag<std::int32_t, 16> i32;
  const hn::Repartition<std::uint8_t, decltype(i32)> u8;
  const hn::RebindToSigned<decltype(u8)> i8;
  hn::Vec<decltype(i32)> sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = hn::Iota(i32, c);
  const auto a = hn::Set(u8, static_cast<std::uint8_t>(rounds & 3));
  const auto b = hn::Set(i8, static_cast<std::int8_t>(rounds & 1));
  for (std::int64_t i = 0; i < rounds; ++i) {
    for (int c = 0; c < kChains; ++c) sums[c] = hn::SumOfMulQuadAccumulate(i32, a, b, sums[c]);
    HWY_FENCE;
  }
  for (int c = 0; c < kChains; ++c) result += hn::ReduceSum(i32, sums[c]);
  return static_cast<double>(rounds) * kChains * static_cast<double>(hn::Lanes(u8));
}

}  // namespace celslm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace celslm {

HWY_EXPORT(many_products);

double peak_products_per_s() {
  double best = 0;
  volatile std::int32_t kept = 0;
  for (int run = 0; run < 20; ++run) {
    std::int32_t result = 0;
    const auto start = std::chrono::steady_clock::now();
    const double products = HWY_DYNAMIC_DISPATCH(many_products)(1'000'003, result);
    best = std::max(best, products / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    kept = kept + result;
  }
  return best;
}

}  // namespace celslm
#endif
