#include "model/matrix/packed_matrix.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "model/matrix/file_codes.h"
#include "model/matrix/panel.h"

// Left out: vectors whose length the compiler does not know (SVE, RVV), which cannot be elements of the arrays that hold
// the sums; such Arm machines run the NEON code with its dot products.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_ALL_SVE | HWY_RVV | HWY_SSSE3)
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/matrix/packed_matrix.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
//
#include "hwy/highway.h"
#include "model/matrix/kernel-inl.h"

#if HWY_ONCE
namespace celslm {
namespace packed_detail {

HWY_EXPORT(multiply_panel);
HWY_EXPORT(quantize_blocks);

namespace {

constexpr std::size_t kAlignment = std::size_t{2} << 20;  // read from end to end for every token: large pages pay

std::size_t panels_of(std::int64_t n_out) {
  return static_cast<std::size_t>((n_out + PackedMatrix::kPanel - 1) / PackedMatrix::kPanel);
}

std::size_t blocks_of(std::int64_t n_in) {
  return static_cast<std::size_t>(n_in / PackedMatrix::kBlock);
}

std::size_t panel_bytes(const Layout& layout, std::int64_t n_in) {
  return blocks_of(n_in) / static_cast<std::size_t>(layout.group) * layout.group_bytes();
}

// Adds a quad's codes to the planes of their block, four at a time: no bit leaves its byte.
void put_quad(const Layout& layout, std::uint8_t* planes, int row, int quad, const std::uint8_t* codes) {
  std::uint32_t left = 0;
  std::memcpy(&left, codes, kQuad);
  const auto add = [&](int plane, std::uint32_t bits, int shift) {
    std::uint8_t* at = planes + plane * kQuadBytes + row * kQuad;
    std::uint32_t word = 0;
    std::memcpy(&word, at, kQuad);
    word |= bits << shift;
    std::memcpy(at, &word, kQuad);
  };
  if (layout.bits == 8) return add(quad, left, 0);
  int next = 0;  // plane
  if (layout.bits >= 4) {
    add(quad % 4, left & 0x0F0F0F0F, quad / 4 * 4);
    left = (left >> 4) & 0x0F0F0F0F;
    next = 4;
  }
  if (layout.bits % 4 >= 2) {
    add(next + quad / 4, left & 0x03030303, quad % 4 * 2);
    left = (left >> 2) & 0x03030303;
    next += 2;
  }
  if (layout.bits % 2 == 1) add(next, left & 0x01010101, quad);
}

void put_half(std::uint8_t* halves, int row, std::uint16_t bits) {
  std::memcpy(halves + static_cast<std::size_t>(row) * sizeof bits, &bits, sizeof bits);
}

// One block of the file into one group of a panel.
void pack_row(const Layout& layout, const FileCodes& from, int row, std::uint8_t* group) {
  for (int b = 0; b < layout.group; ++b) {
    std::uint8_t* block = group + static_cast<std::size_t>(b) * layout.block_bytes();
    for (int quad = 0; quad < kQuads; ++quad) put_quad(layout, block, row, quad, from.codes + b * kValues + quad * kQuad);
    for (int part = 0; layout.byte_scales() && part < layout.parts; ++part) {
      const auto at = static_cast<std::size_t>(part * kRows + row);
      const int number = b * layout.parts + part;
      block[layout.scales_at() + at] = from.scales[number];
      if (layout.scaling == Scaling::kUnsigned) block[layout.mins_at() + at] = from.mins[number];
    }
  }
  if (layout.scaling == Scaling::kExponent) return;
  put_half(group + layout.halves_at(), row, from.scale);
  if (layout.mins) put_half(group + layout.halves_at() + kRows * sizeof from.scale, row, from.min);
}

}  // namespace
}  // namespace packed_detail

using namespace packed_detail;

void q8_quantize(const float* in, std::int64_t n_in, std::int64_t n_tokens, Q8Block* out, int ith, int nth) {
  const std::size_t n_blocks = blocks_of(n_in) * static_cast<std::size_t>(n_tokens);
  const std::size_t first = n_blocks * static_cast<std::size_t>(ith) / static_cast<std::size_t>(nth);
  const std::size_t last = n_blocks * static_cast<std::size_t>(ith + 1) / static_cast<std::size_t>(nth);
  HWY_DYNAMIC_DISPATCH(quantize_blocks)(in + first * PackedMatrix::kBlock, last - first, out + first);
}

void PackedMatrix::Free::operator()(std::uint8_t* memory) const {
  ::operator delete[](memory, std::align_val_t{kAlignment});
}

PackedMatrix::PackedMatrix(WeightType type, std::int64_t n_in, std::int64_t n_out, std::size_t size_bytes)
    : type_(type), n_in_(n_in), n_out_(n_out), size_bytes_(size_bytes) {}

Result<std::unique_ptr<PackedMatrix>> PackedMatrix::create(WeightType type, ByteView file, std::int64_t n_in,
                                                           std::int64_t n_out) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // keeps every product below 2^63
  const FileBlock unit = file_block(type);
  if (n_in < unit.values || n_in % unit.values != 0 || n_out < 1 || n_in > kMost || n_out > kMost)
    return fail(ErrorKind::kInvalid, "a quantized matrix of {} x {} in blocks of {}", n_in, n_out, unit.values);
  if (file.size() != static_cast<std::size_t>(n_in / unit.values * n_out) * unit.bytes)
    return fail(ErrorKind::kInvalid, "{} bytes for a quantized matrix of {} x {}", file.size(), n_in, n_out);
  const std::size_t size = panels_of(n_out) * panel_bytes(layout_of(type), n_in);
  std::unique_ptr<PackedMatrix> out(new PackedMatrix(type, n_in, n_out, size));
  CELSLM_CHECK_OK(out->allocate());
  out->pack(file);
  return out;
}

Status PackedMatrix::allocate() {
  auto* memory = static_cast<std::uint8_t*>(::operator new[](size_bytes_, std::align_val_t{kAlignment}, std::nothrow));
  if (memory == nullptr) return fail(ErrorKind::kOverloaded, "no memory for {} bytes of weights", size_bytes_);
  ::madvise(memory, size_bytes_, MADV_HUGEPAGE);
  panels_.reset(memory);
  return {};
}

void PackedMatrix::pack(ByteView file) {
  const Layout layout = layout_of(type_);
  const FileBlock unit = file_block(type_);
  const auto units = static_cast<std::size_t>(n_in_ / unit.values);
  std::memset(panels_.get(), 0, size_bytes_);
  FileCodes codes;
  for (std::size_t r = 0; r < static_cast<std::size_t>(n_out_); ++r) {
    std::uint8_t* panel = panels_.get() + r / kRows * panel_bytes(layout, n_in_);
    for (std::size_t i = 0; i < units; ++i) {
      read_codes(type_, file.data() + (r * units + i) * unit.bytes, codes);
      pack_row(layout, codes, static_cast<int>(r % kRows), panel + i * layout.group_bytes());
    }
  }
}

void PackedMatrix::multiply(const Q8Block* x, std::int64_t n_tokens, float* out, int ith, int nth) const {
  const std::size_t stride = panel_bytes(layout_of(type_), n_in_);
  const auto n_out = static_cast<std::size_t>(n_out_);
  const std::size_t n_panels = panels_of(n_out_);
  const std::size_t last = n_panels * static_cast<std::size_t>(ith + 1) / static_cast<std::size_t>(nth);
  for (std::size_t p = n_panels * static_cast<std::size_t>(ith) / static_cast<std::size_t>(nth); p < last; ++p) {
    HWY_DYNAMIC_DISPATCH(multiply_panel)
    (type_, panels_.get() + p * stride, blocks_of(n_in_), x, static_cast<std::size_t>(n_tokens), out + p * kRows, n_out,
     std::min<std::size_t>(kRows, n_out - p * kRows));
  }
}

}  // namespace celslm
#endif
