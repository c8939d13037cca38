// One panel of weights against any number of tokens.
#if defined(CELSLM_PACKED_KERNEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CELSLM_PACKED_KERNEL_INL_H_
#undef CELSLM_PACKED_KERNEL_INL_H_
#else
#define CELSLM_PACKED_KERNEL_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "model/matrix/packed_matrix.h"
#include "model/matrix/panel.h"
#include "model/matrix/products-inl.h"
#include "model/matrix/unpack-inl.h"
#include "model/numeric/round-inl.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::packed_detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using VF = hn::Vec<F32>;

// Sums kept in registers: vectors of rows x tokens, an integer and a float one each. 32 registers with AVX-512 and on Arm.
inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64;
inline constexpr int kVectors = kManyRegisters ? 2 : 1;
inline constexpr int kMaxTokens = kManyRegisters ? 6 : 4;

// Blocks that are unpacked together, to be met by all tokens before the next ones: by many in the second-level cache, by as
// few as fit into registers in the first.
inline constexpr std::size_t kManyBlocks = 64;
inline constexpr std::size_t kFewBlocks = 8;

// Blocks of a panel, unpacked, and the same blocks of tokens.
struct Operands {
  const std::uint8_t* values;  // [n_blocks], `stride` bytes apart
  std::size_t stride;
  const Factors* factors;  // [n_blocks]
  const Q8Block* x;        // of the first token
  std::size_t x_stride;    // from a token to the next
  std::size_t n_blocks;
  bool first;  // sums begin at zero, not with what is in `out`
  bool dots;   // kDotsAreOptional, and they are there
};

template <Layout kLayout>
HWY_INLINE std::int32_t start_of(const Q8Block& x, int part) {
  if constexpr (kLayout.mins || kSignedWeights) return 0;
  return kLayout.parts == 1 ? x.correction : x.part_corrections[part];
}

// What a min of 1 adds: the sum of the activations.
template <Layout kLayout>
HWY_INLINE float sum_of(const Q8Block& x, int part) {
  return kLayout.parts == 1 ? x.sum : x.scale * static_cast<float>(x.part_corrections[part]) * (-1.0F / 128.0F);
}

// Rows [row, row + kVectors * lanes) against kTokens tokens. out: of the first token and row, tokens out_stride apart.
template <Layout kLayout, bool kDots, int kTokens>
HWY_NOINLINE void multiply_rows(const Operands& in, std::size_t row, float* HWY_RESTRICT out, std::size_t out_stride) {
  const F32 f32;
  const I32 i32;
  const U8 u8;
  const I8 i8;
  const std::size_t lanes = hn::Lanes(f32);
  constexpr int kPartQuads = kQuads / kLayout.parts;
  VF sums[kTokens][kVectors];
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) {
      const float* from = out + static_cast<std::size_t>(t) * out_stride + static_cast<std::size_t>(v) * lanes;
      sums[t][v] = in.first ? hn::Zero(f32) : hn::LoadU(f32, from);
    }
  }
  for (std::size_t b = 0; b < in.n_blocks; ++b) {
    const std::uint8_t* HWY_RESTRICT values = in.values + b * in.stride + row * kQuad;
    const Q8Block* HWY_RESTRICT x = in.x + b;
    for (int part = 0; part < kLayout.parts; ++part) {
      VI dots[kTokens][kVectors];
      HWY_UNROLL(8)
      for (int t = 0; t < kTokens; ++t) {
        HWY_UNROLL(2)
        for (int v = 0; v < kVectors; ++v)
          dots[t][v] = hn::Set(i32, start_of<kLayout>(x[static_cast<std::size_t>(t) * in.x_stride], part));
      }
      HWY_UNROLL(8)
      for (int quad = part * kPartQuads; quad < (part + 1) * kPartQuads; ++quad) {
        hn::Vec<U8> w[kVectors];
        HWY_UNROLL(2)
        for (int v = 0; v < kVectors; ++v) {
          w[v] = hn::Load(u8, values + quad * kQuadBytes + static_cast<std::size_t>(v) * lanes * kQuad);
          if constexpr (kSignedWeights && !kLayout.mins) w[v] = hn::Xor(w[v], hn::Set(u8, 0x80));
        }
        HWY_UNROLL(8)
        for (int t = 0; t < kTokens; ++t) {
          std::int32_t four;
          hwy::CopyBytes<4>(x[static_cast<std::size_t>(t) * in.x_stride].values + quad * kQuad, &four);
          const auto a = hn::BitCast(i8, hn::Set(i32, four));
          HWY_UNROLL(2)
          for (int v = 0; v < kVectors; ++v) dots[t][v] = add_products<kDots>(w[v], a, dots[t][v]);
        }
      }
      const Factors& factors = in.factors[b];
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) {
        const std::size_t at = row + static_cast<std::size_t>(v) * lanes;
        const VF scale = hn::Load(f32, factors.scales[part] + at);
        HWY_UNROLL(8)
        for (int t = 0; t < kTokens; ++t) {
          const VF both = hn::Mul(scale, hn::Set(f32, x[static_cast<std::size_t>(t) * in.x_stride].scale));
          sums[t][v] = hn::MulAdd(hn::ConvertTo(f32, dots[t][v]), both, sums[t][v]);
        }
        if constexpr (kLayout.mins) {
          const VF min = hn::Load(f32, factors.mins[part] + at);
          HWY_UNROLL(8)
          for (int t = 0; t < kTokens; ++t) {
            const float sum = sum_of<kLayout>(x[static_cast<std::size_t>(t) * in.x_stride], part);
            sums[t][v] = hn::MulAdd(min, hn::Set(f32, sum), sums[t][v]);
          }
        }
      }
    }
  }
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v)
      hn::StoreU(sums[t][v], f32, out + static_cast<std::size_t>(t) * out_stride + static_cast<std::size_t>(v) * lanes);
  }
}

// The last, narrower group of tokens has code of its own for each width.
template <Layout kLayout, int kTokens = kMaxTokens>
void multiply_tokens(int n_tokens, const Operands& in, std::size_t row, float* out, std::size_t out_stride) {
  if constexpr (kTokens > 0) {
    if (n_tokens == kTokens) {
      if constexpr (kDotsAreOptional) {
        if (in.dots) return multiply_rows<kLayout, true, kTokens>(in, row, out, out_stride);
      }
      return multiply_rows<kLayout, false, kTokens>(in, row, out, out_stride);
    }
    multiply_tokens<kLayout, kTokens - 1>(n_tokens, in, row, out, out_stride);
  }
}

// The last panel may have fewer rows than vectors take.
template <Layout kLayout>
void multiply_last_rows(int n_tokens, const Operands& in, std::size_t row, std::size_t n_rows, float* out,
                        std::size_t out_stride) {
  HWY_ALIGN float padded[kMaxTokens * kRows] = {};
  for (int t = 0; t < n_tokens; ++t) std::copy_n(out + static_cast<std::size_t>(t) * out_stride, n_rows, padded + t * kRows);
  multiply_tokens<kLayout>(n_tokens, in, row, padded, kRows);
  for (int t = 0; t < n_tokens; ++t) std::copy_n(padded + t * kRows, n_rows, out + static_cast<std::size_t>(t) * out_stride);
}

// All tokens against some blocks of a panel. out: [n_tokens][out_stride], of which this panel's n_rows are written.
template <Layout kLayout>
void multiply_blocks(Operands in, std::size_t n_tokens, float* out, std::size_t out_stride, std::size_t n_rows) {
  const std::size_t step = kVectors * hn::Lanes(F32());
  for (std::size_t t = 0; t < n_tokens; t += kMaxTokens, in.x += kMaxTokens * in.x_stride) {
    const int count = static_cast<int>(std::min<std::size_t>(kMaxTokens, n_tokens - t));
    for (std::size_t row = 0; row < n_rows; row += step) {
      float* to = out + t * out_stride + row;
      if (row + step <= n_rows) {
        multiply_tokens<kLayout>(count, in, row, to, out_stride);
      } else {
        multiply_last_rows<kLayout>(count, in, row, n_rows - row, to, out_stride);
      }
    }
  }
}

template <Layout kLayout, std::size_t kBlocks>
void multiply_unpacked(const std::uint8_t* panel, std::size_t n_blocks, const Q8Block* x, std::size_t n_tokens, float* out,
                       std::size_t out_stride, std::size_t n_rows) {
  constexpr bool kAsItIs = kLayout.bits == 8;
  HWY_ALIGN std::uint8_t values[kAsItIs ? 1 : kBlocks * kBlockValues];
  HWY_ALIGN Factors factors[kBlocks];
  for (std::size_t first = 0; first < n_blocks; first += kBlocks) {
    const std::size_t n = std::min(kBlocks, n_blocks - first);
    unpack<kLayout>(panel, first, n, values, factors);
    const Operands in = {.values = kAsItIs ? panel + first * kLayout.group_bytes() : values,
                         .stride = kAsItIs ? kLayout.group_bytes() : kBlockValues,
                         .factors = factors,
                         .x = x + first,
                         .x_stride = n_blocks,
                         .n_blocks = n,
                         .first = first == 0,
                         .dots = kDotsAreOptional && has_dots()};
    multiply_blocks<kLayout>(in, n_tokens, out, out_stride, n_rows);
  }
}

// All rows of one panel against all tokens. out: [n_tokens][out_stride], of which this panel's n_rows are written.
template <Layout kLayout>
void multiply_panel_of(const std::uint8_t* panel, std::size_t n_blocks, const Q8Block* x, std::size_t n_tokens, float* out,
                       std::size_t out_stride, std::size_t n_rows) {
  const auto run = n_tokens > kMaxTokens ? multiply_unpacked<kLayout, kManyBlocks> : multiply_unpacked<kLayout, kFewBlocks>;
  run(panel, n_blocks, x, n_tokens, out, out_stride, n_rows);
}

void multiply_panel(WeightType type, const std::uint8_t* panel, std::size_t n_blocks, const Q8Block* x, std::size_t n_tokens,
                    float* out, std::size_t out_stride, std::size_t n_rows) {
  const auto run = [&]<WeightType kType>() {
    multiply_panel_of<layout_of(kType)>(panel, n_blocks, x, n_tokens, out, out_stride, n_rows);
  };
  switch (type) {
    case WeightType::kQ40: return run.operator()<WeightType::kQ40>();
    case WeightType::kQ41: return run.operator()<WeightType::kQ41>();
    case WeightType::kQ50: return run.operator()<WeightType::kQ50>();
    case WeightType::kQ51: return run.operator()<WeightType::kQ51>();
    case WeightType::kQ80: return run.operator()<WeightType::kQ80>();
    case WeightType::kIq4Nl: return run.operator()<WeightType::kIq4Nl>();
    case WeightType::kMxfp4: return run.operator()<WeightType::kMxfp4>();
    case WeightType::kQ2K: return run.operator()<WeightType::kQ2K>();
    case WeightType::kQ3K: return run.operator()<WeightType::kQ3K>();
    case WeightType::kQ4K: return run.operator()<WeightType::kQ4K>();
    case WeightType::kQ5K: return run.operator()<WeightType::kQ5K>();
    case WeightType::kQ6K: return run.operator()<WeightType::kQ6K>();
  }
}

std::int32_t sum_of_values(const std::int8_t* values, std::size_t n) {
  const I32 i32;
  const hn::Rebind<std::int8_t, F32> i8;
  VI sum = hn::Zero(i32);
  for (std::size_t i = 0; i < n; i += hn::Lanes(i32)) sum = hn::Add(sum, hn::PromoteTo(i32, hn::LoadU(i8, values + i)));
  return hn::ReduceSum(i32, sum);
}

void quantize_block(const float* HWY_RESTRICT in, Q8Block& out) {
  out.scale = q8_detail::HWY_NAMESPACE::round_block(in, out.values);
  const std::int32_t low = sum_of_values(out.values, kValues / 2);
  const std::int32_t high = sum_of_values(out.values + kValues / 2, kValues / 2);
  out.part_corrections[0] = -128 * low;
  out.part_corrections[1] = -128 * high;
  out.correction = -128 * (low + high);
  out.sum = out.scale * static_cast<float>(low + high);
}

void quantize_blocks(const float* in, std::size_t n_blocks, Q8Block* out) {
  for (std::size_t b = 0; b < n_blocks; ++b) quantize_block(in + b * PackedMatrix::kBlock, out[b]);
}

}  // namespace celslm::packed_detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
