// f32 to 16 and 8 bits and back, vectorized for the CPU it runs on (Highway): the one place where numbers are rounded, for
// the codecs and for the KV segments alike.
//
// Every function gives the same bits on every CPU: there is no sum of products that could be fused, and no instruction
// whose treatment of subnormals differs. Where one returns bool, false means that an input is outside its domain; which one
// is left to the caller to find out, off the fast path. Encoded bytes need no alignment.
#pragma once

#include <cstddef>

namespace celslm {

// IEEE binary16, to nearest, ties to even. Domain: |v| < 65520; larger ones become infinite, and a NaN becomes
// NaN or infinite, as the CPU has it.
inline constexpr float kF16Limit = 65520.0F;
bool f16_from_f32(const float* in, std::byte* out, std::size_t n);
// Domain: exponent bits not all ones. What infinities and NaN become depends on the CPU: without F16C they may come out as
// finite numbers, so a caller must heed the result.
bool f32_from_f16(const std::byte* in, float* out, std::size_t n);
// Both at once: f16 as f32. in and out may be the same memory.
void f32_through_f16(const float* in, float* out, std::size_t n);

// The upper half of binary32, to nearest, ties to even, subnormals kept. Domain: what does not round to infinity; a NaN
// keeps its sign and becomes quiet.
inline constexpr float kBf16Limit = 0x1.FFp127F;
bool bf16_from_f32(const float* in, std::byte* out, std::size_t n);
bool f32_from_bf16(const std::byte* in, float* out, std::size_t n);
void f32_through_bf16(const float* in, float* out, std::size_t n);  // as f32_through_f16

// ggml's Q8_0 (q8_0.h): n, a multiple of kQ8Values, finite values into n / kQ8Values blocks of kQ8Bytes.
void q8_0_from_f32(const float* in, std::byte* out, std::size_t n);

// The codec q8, whose scales no value exceeds. `rows` rows of n values each. scales: [rows][ceil(n / 32)] f16; codes:
// [rows][n] i8.
inline constexpr std::size_t kQ8Group = 32;
// The largest scale of which no code yields what f16 cannot hold, 127 times which is exact.
inline constexpr float kQ8LargestScale = 515.5F;
inline constexpr float kQ8Largest = 127.0F * kQ8LargestScale;
static_assert(kQ8Largest < kF16Limit && 127.0F * 516.0F >= kF16Limit);
constexpr std::size_t q8_groups(std::size_t n) {
  return (n + kQ8Group - 1) / kQ8Group;
}
// Domain: |v| <= kQ8Largest; for others the output is unspecified.
bool q8_from_f32(const float* in, std::byte* scales, std::byte* codes, std::size_t rows, std::size_t n);
// Domain: what q8_from_f32 yields, as far as a group shows it: scales from 0 to kQ8LargestScale, codes not -128, and the
// largest magnitude of a group's codes 127 (0 where the scale is 0, and down to what the rounding of the scale allows where
// it is subnormal).
bool f32_from_q8(const std::byte* scales, const std::byte* codes, float* out, std::size_t rows, std::size_t n);

}  // namespace celslm
