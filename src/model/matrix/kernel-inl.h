// One panel of weights against any number of tokens.
#if defined(CELSLM_Q8_KERNEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CELSLM_Q8_KERNEL_INL_H_
#undef CELSLM_Q8_KERNEL_INL_H_
#else
#define CELSLM_Q8_KERNEL_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "model/matrix/panel.h"
#include "model/matrix/q8_matrix.h"
#include "model/numeric/round-inl.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::q8_detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// No vector is wider than a panel has lanes to give: 16 rows of 4 bytes.
using F32 = hn::CappedTag<float, 16>;
using I32 = hn::RebindToSigned<F32>;
using U8 = hn::Repartition<std::uint8_t, F32>;
using I8 = hn::RebindToSigned<U8>;
using F16 = hn::Rebind<hwy::float16_t, F32>;
using VF = hn::Vec<F32>;
using VI = hn::Vec<I32>;

// Sums kept in registers: vectors of rows x tokens, an integer and a float one each. 32 registers with AVX-512 and on Arm.
inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64;
inline constexpr int kVectors = kManyRegisters ? 2 : 1;
inline constexpr int kMaxTokens = kManyRegisters ? 6 : 4;

// Rows [row, row + kVectors * lanes) of the panel against kTokens tokens that lie `stride` blocks apart.
template <int kTokens>
HWY_NOINLINE void multiply_rows(const PanelBlock* HWY_RESTRICT panel, std::size_t row, const Q8Block* HWY_RESTRICT x,
                                std::size_t n_blocks, float* HWY_RESTRICT out, std::size_t out_stride) {
  const F32 f32;
  const I32 i32;
  const U8 u8;
  const I8 i8;
  const F16 f16;
  const std::size_t lanes = hn::Lanes(f32);
  VF sums[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) sums[t][v] = hn::Zero(f32);
  }
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const PanelBlock& block = panel[b];
    VI dots[kTokens][kVectors];
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) dots[t][v] = hn::Set(i32, x[static_cast<std::size_t>(t) * n_blocks + b].correction);
    }
    for (int quad = 0; quad < kQuads; ++quad) {
      hn::Vec<U8> w[kVectors];
      for (int v = 0; v < kVectors; ++v) w[v] = hn::Load(u8, block.values[quad][row + static_cast<std::size_t>(v) * lanes]);
      for (int t = 0; t < kTokens; ++t) {
        std::int32_t four;
        hwy::CopyBytes<4>(x[static_cast<std::size_t>(t) * n_blocks + b].values + quad * kQuad, &four);
        const auto a = hn::BitCast(i8, hn::Set(i32, four));
        for (int v = 0; v < kVectors; ++v) dots[t][v] = hn::SumOfMulQuadAccumulate(i32, w[v], a, dots[t][v]);
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      const auto* bits = reinterpret_cast<const hwy::float16_t*>(block.scales + row + static_cast<std::size_t>(v) * lanes);
      const VF scale = hn::PromoteTo(f32, hn::Load(f16, bits));
      for (int t = 0; t < kTokens; ++t) {
        const VF both = hn::Mul(scale, hn::Set(f32, x[static_cast<std::size_t>(t) * n_blocks + b].scale));
        sums[t][v] = hn::MulAdd(hn::ConvertTo(f32, dots[t][v]), both, sums[t][v]);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v)
      hn::StoreU(sums[t][v], f32, out + static_cast<std::size_t>(t) * out_stride + static_cast<std::size_t>(v) * lanes);
  }
}

// The last, narrower group of tokens has code of its own for each width.
template <int kTokens = kMaxTokens>
void multiply_tokens(int n_tokens, const PanelBlock* panel, std::size_t row, const Q8Block* x, std::size_t n_blocks,
                     float* out, std::size_t out_stride) {
  if constexpr (kTokens > 0) {
    if (n_tokens == kTokens) return multiply_rows<kTokens>(panel, row, x, n_blocks, out, out_stride);
    multiply_tokens<kTokens - 1>(n_tokens, panel, row, x, n_blocks, out, out_stride);
  }
}

// All rows of one panel against all tokens. out: [n_tokens][out_stride], of which this panel's n_rows are written.
void multiply_panel(const PanelBlock* panel, std::size_t n_blocks, const Q8Block* x, std::size_t n_tokens, float* out,
                    std::size_t out_stride, std::size_t n_rows) {
  const std::size_t step = kVectors * hn::Lanes(F32());
  HWY_ALIGN float padded[kMaxTokens * kRows];
  for (std::size_t t = 0; t < n_tokens; t += kMaxTokens) {
    const int count = static_cast<int>(std::min<std::size_t>(kMaxTokens, n_tokens - t));
    for (std::size_t row = 0; row < n_rows; row += step) {
      float* to = out + t * out_stride + row;
      const bool whole = row + step <= n_rows;
      multiply_tokens(count, panel, row, x + t * n_blocks, n_blocks, whole ? to : padded, whole ? out_stride : kRows);
      for (int i = 0; !whole && i < count; ++i)
        std::copy_n(padded + i * kRows, n_rows - row, to + static_cast<std::size_t>(i) * out_stride);
    }
  }
}

void quantize_block(const float* HWY_RESTRICT in, Q8Block& out) {
  const I32 i32;
  const hn::Rebind<std::int8_t, F32> i8;
  out.scale = round_block(in, out.values);
  VI sum = hn::Zero(i32);
  for (std::size_t i = 0; i < kQ8Values; i += hn::Lanes(i32))
    sum = hn::Add(sum, hn::PromoteTo(i32, hn::LoadU(i8, out.values + i)));
  out.correction = -128 * hn::ReduceSum(i32, sum);
}

void quantize_blocks(const float* in, std::size_t n_blocks, Q8Block* out) {
  for (std::size_t b = 0; b < n_blocks; ++b) quantize_block(in + b * Q8Matrix::kBlock, out[b]);
}

}  // namespace celslm::q8_detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
