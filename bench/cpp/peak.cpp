#include "bench/cpp/peak.h"

#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "hwy/cache_control.h"

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
  // Every loop over the sums is unrolled: else they are kept in memory.
  HWY_UNROLL(12)
  for (int c = 0; c < kChains; ++c) sums[c] = hn::Iota(i32, c);
  const auto a = hn::Set(u8, static_cast<std::uint8_t>(rounds & 3));
  const auto b = hn::Set(i8, static_cast<std::int8_t>(rounds & 1));
  for (std::int64_t i = 0; i < rounds; ++i) {
    HWY_UNROLL(12)
    for (int c = 0; c < kChains; ++c) sums[c] = hn::SumOfMulQuadAccumulate(i32, a, b, sums[c]);
    HWY_FENCE;
  }
  HWY_UNROLL(12)
  for (int c = 0; c < kChains; ++c) result += hn::ReduceSum(i32, sums[c]);
  return static_cast<double>(rounds) * kChains * static_cast<double>(hn::Lanes(u8));
}

constexpr std::size_t kAhead = 4096;  // as our kernels: beyond the page where the hardware stops looking ahead

// Returns a sum, so that nothing is left out.
std::int32_t read_all(const std::uint8_t* data, std::size_t size) {
  const hn::CappedTag<std::int32_t, 16> i32;
  const std::size_t lanes = hn::Lanes(i32) * sizeof(std::int32_t);
  hn::Vec<decltype(i32)> sums[4] = {hn::Zero(i32), hn::Zero(i32), hn::Zero(i32), hn::Zero(i32)};
  const auto* end = data + size / (4 * lanes) * (4 * lanes);
  for (; data < end; data += 4 * lanes) {
    for (std::size_t c = 0; c < 4; ++c) hwy::Prefetch(data + kAhead + c * lanes);
    for (std::size_t c = 0; c < 4; ++c)
      sums[c] = hn::Add(sums[c], hn::LoadU(i32, reinterpret_cast<const std::int32_t*>(data + c * lanes)));
  }
  return hn::ReduceSum(i32, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

}  // namespace celslm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace celslm {

HWY_EXPORT(many_products);
HWY_EXPORT(read_all);

namespace {

// The best of several runs, from the first thread's start to the last one's end. Threads look at the clock themselves: who
// waits for them may be given a core only when they have done half of their work.
double best_rate(int threads, int runs, const std::function<double(int thread)>& work) {
  using Clock = std::chrono::steady_clock;
  struct Part {
    Clock::time_point start, end;
    double done = 0;
  };
  double best = 0;
  for (int run = 0; run < runs; ++run) {
    std::vector<Part> parts(static_cast<std::size_t>(threads));
    std::barrier start(threads);
    std::vector<std::jthread> workers;
    workers.reserve(parts.size());
    for (int thread = 0; thread < threads; ++thread) {
      workers.emplace_back([&, thread] {
        Part& part = parts[static_cast<std::size_t>(thread)];
        start.arrive_and_wait();
        part.start = Clock::now();
        part.done = work(thread);
        part.end = Clock::now();
      });
    }
    workers.clear();
    double all = 0;
    for (const Part& part : parts) all += part.done;
    const auto took = std::ranges::max(parts, {}, &Part::end).end - std::ranges::min(parts, {}, &Part::start).start;
    best = std::max(best, all / std::chrono::duration<double>(took).count());
  }
  return best;
}

}  // namespace

double peak_products_per_s(int threads) {
  return best_rate(threads, 10, [](int) {
    std::int32_t result = 0;
    const double products = HWY_DYNAMIC_DISPATCH(many_products)(2'000'003, result);
    hwy::PreventElision(result);
    return products;
  });
}

double memory_bytes_per_s(int threads) {
  constexpr std::size_t kEach = std::size_t{256} << 20;
  constexpr std::size_t kLargePage = std::size_t{2} << 20;
  const std::size_t size = kEach * static_cast<std::size_t>(threads);
  const auto free = [](std::uint8_t* memory) { std::free(memory); };
  const std::unique_ptr<std::uint8_t, decltype(free)> memory(
      static_cast<std::uint8_t*>(std::aligned_alloc(kLargePage, size)), free);
  if (memory == nullptr) return 0;
  ::madvise(memory.get(), size, MADV_HUGEPAGE);
  std::memset(memory.get(), 1, size);
  return best_rate(threads, 8, [&](int thread) {
    hwy::PreventElision(HWY_DYNAMIC_DISPATCH(read_all)(memory.get() + kEach * static_cast<std::size_t>(thread), kEach));
    return static_cast<double>(kEach);
  });
}

}  // namespace celslm
#endif
