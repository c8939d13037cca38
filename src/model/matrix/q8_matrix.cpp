#include "model/matrix/q8_matrix.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "model/numeric/q8_0.h"

// Left out: vectors whose length the compiler does not know (SVE, RVV), which cannot be elements of the arrays that hold
// the sums; such Arm machines run the NEON code with its dot products.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_ALL_SVE | HWY_RVV | HWY_SSSE3)
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/matrix/q8_matrix.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
//
#include "hwy/highway.h"
#include "model/matrix/kernel-inl.h"

#if HWY_ONCE
namespace celslm {
namespace q8_detail {

HWY_EXPORT(multiply_panel);
HWY_EXPORT(quantize_blocks);

namespace {

constexpr std::size_t kAlignment = std::size_t{2} << 20;  // read from end to end for every token: large pages pay

std::size_t panels_of(std::int64_t n_out) {
  return static_cast<std::size_t>((n_out + Q8Matrix::kPanel - 1) / Q8Matrix::kPanel);
}

std::size_t blocks_of(std::int64_t n_in) {
  return static_cast<std::size_t>(n_in / Q8Matrix::kBlock);
}

void pack_block(const std::byte* file_block, int row, PanelBlock& to) {
  std::memcpy(&to.scales[row], file_block, sizeof to.scales[row]);
  for (int i = 0; i < Q8Matrix::kBlock; ++i) {
    // The sign bit turned: two's complement plus 128.
    to.values[i / kQuad][row][i % kQuad] = static_cast<std::uint8_t>(file_block[2 + i] ^ std::byte{0x80});
  }
}

}  // namespace
}  // namespace q8_detail

using namespace q8_detail;

void q8_quantize(const float* in, std::int64_t n_in, std::int64_t n_tokens, Q8Block* out, int ith, int nth) {
  const std::size_t n_blocks = blocks_of(n_in) * static_cast<std::size_t>(n_tokens);
  const std::size_t first = n_blocks * static_cast<std::size_t>(ith) / static_cast<std::size_t>(nth);
  const std::size_t last = n_blocks * static_cast<std::size_t>(ith + 1) / static_cast<std::size_t>(nth);
  HWY_DYNAMIC_DISPATCH(quantize_blocks)(in + first * Q8Matrix::kBlock, last - first, out + first);
}

void Q8Matrix::Free::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{kAlignment});
}

Q8Matrix::Q8Matrix(std::int64_t n_in, std::int64_t n_out, std::unique_ptr<std::byte[], Free> panels)
    : n_in_(n_in), n_out_(n_out), panels_(std::move(panels)) {}

std::size_t Q8Matrix::size_bytes() const {
  return panels_of(n_out_) * blocks_of(n_in_) * sizeof(PanelBlock);
}

Result<std::unique_ptr<Q8Matrix>> Q8Matrix::create(ByteView q8_0, std::int64_t n_in, std::int64_t n_out) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // keeps every product below 2^63
  if (n_in < kBlock || n_in % kBlock != 0 || n_out < 1 || n_in > kMost || n_out > kMost)
    return fail(ErrorKind::kInvalid, "a Q8_0 matrix of {} x {}", n_in, n_out);
  const std::size_t row_bytes = blocks_of(n_in) * kQ8Bytes;
  if (q8_0.size() != row_bytes * static_cast<std::size_t>(n_out))
    return fail(ErrorKind::kInvalid, "{} bytes for a Q8_0 matrix of {} x {}", q8_0.size(), n_in, n_out);

  const std::size_t size = panels_of(n_out) * blocks_of(n_in) * sizeof(PanelBlock);
  auto* memory = static_cast<std::byte*>(::operator new[](size, std::align_val_t{kAlignment}, std::nothrow));
  if (memory == nullptr) return fail(ErrorKind::kOverloaded, "no memory for {} bytes of weights", size);
  ::madvise(memory, size, MADV_HUGEPAGE);
  std::unique_ptr<Q8Matrix> out(new Q8Matrix(n_in, n_out, std::unique_ptr<std::byte[], Free>(memory)));

  auto* blocks = reinterpret_cast<PanelBlock*>(memory);
  for (std::size_t panel = 0; panel < panels_of(n_out); ++panel) {
    for (std::size_t b = 0; b < blocks_of(n_in); ++b) {
      PanelBlock& block = *new (blocks++) PanelBlock{};
      for (int row = 0; row < kRows; ++row) {
        const std::size_t r = panel * kRows + static_cast<std::size_t>(row);
        if (r < static_cast<std::size_t>(n_out)) pack_block(q8_0.data() + r * row_bytes + b * kQ8Bytes, row, block);
      }
    }
  }
  return out;
}

void Q8Matrix::multiply(const Q8Block* x, std::int64_t n_tokens, float* out, int ith, int nth) const {
  const auto* blocks = reinterpret_cast<const PanelBlock*>(panels_.get());
  const std::size_t n_blocks = blocks_of(n_in_);
  const auto n_out = static_cast<std::size_t>(n_out_);
  const std::size_t n_panels = panels_of(n_out_);
  const std::size_t last = n_panels * static_cast<std::size_t>(ith + 1) / static_cast<std::size_t>(nth);
  for (std::size_t p = n_panels * static_cast<std::size_t>(ith) / static_cast<std::size_t>(nth); p < last; ++p) {
    HWY_DYNAMIC_DISPATCH(multiply_panel)
    (blocks + p * n_blocks, n_blocks, x, static_cast<std::size_t>(n_tokens), out + p * kRows, n_out,
     std::min<std::size_t>(kRows, n_out - p * kRows));
  }
}

}  // namespace celslm
#endif
