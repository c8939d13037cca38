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

// Blocks that are unpacked together, to be met by all tokens before the next ones: in the second-level cache.
inline constexpr std::size_t kManyBlocks = 64;
// Few tokens meet each block as it is kept. Where a panel has more rows than registers, so many blocks are passed over by
// all of them before the next ones: in the first-level cache.
inline constexpr std::size_t kFewBlocks = 8;

// Up to so many tokens, a block is unpacked in less time for each register's worth of them than it takes to write it down
// for all and read it back; codes of 4 bits take two instructions, others more. Measured.
constexpr std::size_t few_tokens(const Layout& layout) {
  if (layout.bits == 4 || layout.bits == 8) return 64;
  return static_cast<std::size_t>(kMaxTokens) * (layout.bits == 5 ? 3 : 1);
}

// The blocks of some tokens that blocks of a panel are multiplied by.
struct Operands {
  const Q8Block* x;      // of the first token
  std::size_t x_stride;  // from a token to the next
  std::size_t n_blocks;
  bool first;  // sums begin at zero, not with what is in `out`
  bool dots;   // kDotsAreOptional, and they are there
};

// Blocks of a panel as they are kept, from number `first` on.
template <Layout kLayout>
struct PackedBlocks {
  static constexpr Layout kOf = kLayout;
  const std::uint8_t* panel;
  std::size_t first;

  HWY_INLINE PackedBlock<kLayout> operator[](std::size_t b) const { return {panel, first + b}; }
};

template <Layout kLayout>
struct UnpackedBlocks {
  static constexpr Layout kOf = kLayout;
  const std::uint8_t* values;  // `stride` bytes apart
  std::size_t stride;
  const Factors* factors;

  HWY_INLINE UnpackedBlock<kLayout> operator[](std::size_t b) const { return {values + b * stride, factors[b]}; }
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

// To `dots` of each token and vector of rows, the products of a quad.
template <bool kDots, int kTokens, int kQuadNumber, typename Block>
HWY_INLINE void add_quad(const Block& block, std::size_t row, const Q8Block* HWY_RESTRICT x, std::size_t x_stride, bool flip,
                         VI (&dots)[kTokens][kVectors]) {
  const U8 u8;
  hn::Vec<U8> w[kVectors];
  HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v) {
    w[v] = block.template values<kQuadNumber>(row + static_cast<std::size_t>(v) * hn::Lanes(F32()));
    if (flip) w[v] = hn::Xor(w[v], hn::Set(u8, 0x80));
  }
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) {
    std::int32_t four;
    hwy::CopyBytes<4>(x[static_cast<std::size_t>(t) * x_stride].values + kQuadNumber * kQuad, &four);
    const auto a = hn::BitCast(I8(), hn::Set(I32(), four));
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) dots[t][v] = add_products<kDots>(w[v], a, dots[t][v]);
  }
}

// A part's quads [kQuadNumber, kEnd).
template <bool kDots, int kTokens, int kQuadNumber, int kEnd, typename Block>
HWY_INLINE void add_quads(const Block& block, std::size_t row, const Q8Block* HWY_RESTRICT x, std::size_t x_stride,
                          bool flip, VI (&dots)[kTokens][kVectors]) {
  if constexpr (kQuadNumber < kEnd) {
    add_quad<kDots, kTokens, kQuadNumber>(block, row, x, x_stride, flip, dots);
    add_quads<kDots, kTokens, kQuadNumber + 1, kEnd>(block, row, x, x_stride, flip, dots);
  }
}

// To the sums of each token and vector of rows, the products of one part of a block.
template <Layout kLayout, bool kDots, int kTokens, int kPart, typename Block>
HWY_INLINE void add_part(const Block& block, std::size_t row, const Q8Block* HWY_RESTRICT x, std::size_t x_stride,
                         VF (&sums)[kTokens][kVectors]) {
  const F32 f32;
  constexpr int kPartQuads = kQuads / kLayout.parts;
  VI dots[kTokens][kVectors];
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v)
      dots[t][v] = hn::Set(I32(), start_of<kLayout>(x[static_cast<std::size_t>(t) * x_stride], kPart));
  }
  constexpr bool kFlip = kSignedWeights && !kLayout.mins;
  add_quads<kDots, kTokens, kPart * kPartQuads, (kPart + 1) * kPartQuads>(block, row, x, x_stride, kFlip, dots);
  HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v) {
    const std::size_t at = row + static_cast<std::size_t>(v) * hn::Lanes(f32);
    const VF scale = block.scale(kPart, at);
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) {
      const VF both = hn::Mul(scale, hn::Set(f32, x[static_cast<std::size_t>(t) * x_stride].scale));
      sums[t][v] = hn::MulAdd(hn::ConvertTo(f32, dots[t][v]), both, sums[t][v]);
    }
    if constexpr (kLayout.mins) {
      const VF min = block.min(kPart, at);
      HWY_UNROLL(8)
      for (int t = 0; t < kTokens; ++t) {
        const float sum = sum_of<kLayout>(x[static_cast<std::size_t>(t) * x_stride], kPart);
        sums[t][v] = hn::MulAdd(min, hn::Set(f32, sum), sums[t][v]);
      }
    }
  }
}

// Rows [row, row + kVectors * lanes) against kTokens tokens. out: of the first token and row, tokens out_stride apart.
template <bool kDots, int kTokens, typename Blocks>
HWY_NOINLINE void multiply_rows(const Blocks& blocks, const Operands& in, std::size_t row, float* HWY_RESTRICT out,
                                std::size_t out_stride) {
  const F32 f32;
  constexpr Layout kLayout = Blocks::kOf;
  const std::size_t lanes = hn::Lanes(f32);
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
    const auto block = blocks[b];
    add_part<kLayout, kDots, kTokens, 0>(block, row, in.x + b, in.x_stride, sums);
    if constexpr (kLayout.parts == 2) add_part<kLayout, kDots, kTokens, 1>(block, row, in.x + b, in.x_stride, sums);
  }
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v)
      hn::StoreU(sums[t][v], f32, out + static_cast<std::size_t>(t) * out_stride + static_cast<std::size_t>(v) * lanes);
  }
}

// The last, narrower group of tokens has code of its own for each width.
template <int kTokens = kMaxTokens, typename Blocks>
void multiply_tokens(int n_tokens, const Blocks& blocks, const Operands& in, std::size_t row, float* out,
                     std::size_t out_stride) {
  if constexpr (kTokens > 0) {
    if (n_tokens == kTokens) {
      if constexpr (kDotsAreOptional) {
        if (in.dots) return multiply_rows<true, kTokens>(blocks, in, row, out, out_stride);
      }
      return multiply_rows<false, kTokens>(blocks, in, row, out, out_stride);
    }
    multiply_tokens<kTokens - 1>(n_tokens, blocks, in, row, out, out_stride);
  }
}

// The last panel may have fewer rows than vectors take.
template <typename Blocks>
void multiply_last_rows(int n_tokens, const Blocks& blocks, const Operands& in, std::size_t row, std::size_t n_rows,
                        float* out, std::size_t out_stride) {
  HWY_ALIGN float padded[kMaxTokens * kRows] = {};
  for (int t = 0; t < n_tokens; ++t) std::copy_n(out + static_cast<std::size_t>(t) * out_stride, n_rows, padded + t * kRows);
  multiply_tokens(n_tokens, blocks, in, row, padded, kRows);
  for (int t = 0; t < n_tokens; ++t) std::copy_n(padded + t * kRows, n_rows, out + static_cast<std::size_t>(t) * out_stride);
}

// All tokens against some blocks of a panel. out: [n_tokens][out_stride], of which this panel's n_rows are written.
template <typename Blocks>
void multiply_blocks(const Blocks& blocks, Operands in, std::size_t n_tokens, float* out, std::size_t out_stride,
                     std::size_t n_rows) {
  const std::size_t step = kVectors * hn::Lanes(F32());
  for (std::size_t t = 0; t < n_tokens; t += kMaxTokens, in.x += kMaxTokens * in.x_stride) {
    const int count = static_cast<int>(std::min<std::size_t>(kMaxTokens, n_tokens - t));
    for (std::size_t row = 0; row < n_rows; row += step) {
      float* to = out + t * out_stride + row;
      if (row + step <= n_rows) {
        multiply_tokens(count, blocks, in, row, to, out_stride);
      } else {
        multiply_last_rows(count, blocks, in, row, n_rows - row, to, out_stride);
      }
    }
  }
}

// Many tokens: a panel's blocks are unpacked for all of them.
template <Layout kLayout>
void multiply_unpacked(const std::uint8_t* panel, std::size_t n_blocks, const Q8Block* x, std::size_t n_tokens, float* out,
                       std::size_t out_stride, std::size_t n_rows) {
  constexpr bool kAsItIs = kLayout.bits == 8;
  HWY_ALIGN std::uint8_t values[kAsItIs ? 1 : kManyBlocks * kBlockValues];
  HWY_ALIGN Factors factors[kManyBlocks];
  for (std::size_t first = 0; first < n_blocks; first += kManyBlocks) {
    const std::size_t n = std::min(kManyBlocks, n_blocks - first);
    unpack<kLayout>(panel, first, n, values, factors);
    const UnpackedBlocks<kLayout> blocks = {.values = kAsItIs ? panel + first * kLayout.group_bytes() : values,
                                            .stride = kAsItIs ? kLayout.group_bytes() : kBlockValues,
                                            .factors = factors};
    const Operands in = {
        .x = x + first, .x_stride = n_blocks, .n_blocks = n, .first = first == 0, .dots = kDotsAreOptional && has_dots()};
    multiply_blocks(blocks, in, n_tokens, out, out_stride, n_rows);
  }
}

// Few tokens: unpacked in registers, on the way to the product.
template <Layout kLayout>
void multiply_packed(const std::uint8_t* panel, std::size_t n_blocks, const Q8Block* x, std::size_t n_tokens, float* out,
                     std::size_t out_stride, std::size_t n_rows) {
  const bool one_pass = kVectors * hn::Lanes(F32()) == kRows;
  const std::size_t step = one_pass ? n_blocks : kFewBlocks;
  for (std::size_t first = 0; first < n_blocks; first += step) {
    const Operands in = {.x = x + first,
                         .x_stride = n_blocks,
                         .n_blocks = std::min(step, n_blocks - first),
                         .first = first == 0,
                         .dots = kDotsAreOptional && has_dots()};
    multiply_blocks(PackedBlocks<kLayout>{.panel = panel, .first = first}, in, n_tokens, out, out_stride, n_rows);
  }
}

// All rows of one panel against all tokens. out: [n_tokens][out_stride], of which this panel's n_rows are written.
template <Layout kLayout>
void multiply_panel_of(const std::uint8_t* panel, std::size_t n_blocks, const Q8Block* x, std::size_t n_tokens, float* out,
                       std::size_t out_stride, std::size_t n_rows) {
  const auto run = n_tokens > few_tokens(kLayout) ? multiply_unpacked<kLayout> : multiply_packed<kLayout>;
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
