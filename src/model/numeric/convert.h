// The arithmetic of the codecs, vectorized for the CPU it runs on (Highway). Internal to kv.
//
// Every function gives the same bits on every CPU: there is no sum of products that could be fused, and no instruction
// whose treatment of subnormals differs. Each returns false, with the output unspecified, if one of the inputs is outside
// its domain; finding out which is left to the caller, off the fast path. Encoded bytes need no alignment.
#pragma once

#include <cstddef>

namespace celslm {

// IEEE binary16, to nearest, ties to even. Domain: |v| < 65520.
inline constexpr float kF16Limit = 65520.0F;
bool f16_from_f32(const float* in, std::byte* out, std::size_t n);
// Domain: exponent bits not all ones.
bool f32_from_f16(const std::byte* in, float* out, std::size_t n);

// The upper half of binary32, to nearest, ties to even, subnormals kept. Domain: what does not round to infinity.
inline constexpr float kBf16Limit = 0x1.FFp127F;
bool bf16_from_f32(const float* in, std::byte* out, std::size_t n);
bool f32_from_bf16(const std::byte* in, float* out, std::size_t n);

// `rows` rows of n values each. scales: [rows][ceil(n / 32)] f16; codes: [rows][n] i8.
inline constexpr std::size_t kQ8Group = 32;
inline constexpr float kQ8Largest = 127.0F * 65504.0F;  // exact: 23 bits
constexpr std::size_t q8_groups(std::size_t n) {
  return (n + kQ8Group - 1) / kQ8Group;
}
// Domain: |v| <= kQ8Largest.
bool q8_from_f32(const float* in, std::byte* scales, std::byte* codes, std::size_t rows, std::size_t n);
// Domain: scales finite and not negative, codes not -128.
bool f32_from_q8(const std::byte* scales, const std::byte* codes, float* out, std::size_t rows, std::size_t n);

}  // namespace celslm
