#include "model/matrix/packed_matrix.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "model/matrix/file_codes.h"
#include "model/matrix/panel.h"

// Left out: vectors whose length the compiler does not know (SVE, RVV), which cannot be elements of the arrays that hold
// the sums; such Arm machines run the NEON code with its dot products. Of NEON with and without AES one is enough, and of
// AVX-512 with VNNI the first.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_ALL_SVE | HWY_RVV | HWY_SSSE3 | HWY_NEON | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_AVX10_2)
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

std::size_t stride_of(const Layout& layout, std::int64_t n_in) {
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

// A shape, for what is done with all panels of a matrix.
struct Shape {
  WeightType type;
  std::size_t n_in;
  std::size_t n_out;
};

// Panels of rows from the file, `first` up to `last`. All bits of `panels` are 0 before.
void pack_panels(const Shape& shape, ByteView file, std::size_t first, std::size_t last, std::uint8_t* panels) {
  const Layout layout = layout_of(shape.type);
  const FileBlock unit = file_block(shape.type);
  const std::size_t units = shape.n_in / static_cast<std::size_t>(unit.values);
  const std::size_t stride = stride_of(layout, static_cast<std::int64_t>(shape.n_in));
  FileCodes codes;
  for (std::size_t r = first * kRows; r < std::min(last * kRows, shape.n_out); ++r) {
    std::uint8_t* panel = panels + r / kRows * stride;
    for (std::size_t i = 0; i < units; ++i) {
      read_codes(shape.type, file.data() + (r * units + i) * unit.bytes, codes);
      pack_row(layout, codes, static_cast<int>(r % kRows), panel + i * layout.group_bytes());
    }
  }
}

Status pack_all(const Shape& shape, ByteView file, std::uint8_t* panels, int n_threads) {
  const std::size_t n_panels = panels_of(static_cast<std::int64_t>(shape.n_out));
  const auto share = [&](int thread) {
    return n_panels * static_cast<std::size_t>(thread) / static_cast<std::size_t>(n_threads);
  };
  try {
    std::vector<std::jthread> others;
    others.reserve(static_cast<std::size_t>(n_threads));
    for (int i = 1; i < n_threads; ++i) {
      others.emplace_back([&, first = share(i), last = share(i + 1)] { pack_panels(shape, file, first, last, panels); });
    }
    pack_panels(shape, file, 0, share(1), panels);
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kOverloaded, "no thread to load weights: {}", error.what());
  }
  return {};
}

// Zeroed, in large pages where the system has them.
std::shared_ptr<std::uint8_t> panel_memory(std::size_t size) {
  auto* memory = static_cast<std::uint8_t*>(::operator new[](size, std::align_val_t{kAlignment}, std::nothrow));
  if (memory == nullptr) return nullptr;
  ::madvise(memory, size, MADV_HUGEPAGE);
  std::memset(memory, 0, size);
  return {memory, [](std::uint8_t* p) { ::operator delete[](p, std::align_val_t{kAlignment}); }};
}

void add_row(const float* HWY_RESTRICT from, std::size_t n, float* HWY_RESTRICT to) {
  if (n == kRows) {  // a number that the compiler knows: vectors without ends
    for (std::size_t i = 0; i < kRows; ++i) to[i] += from[i];
  } else {
    for (std::size_t i = 0; i < n; ++i) to[i] += from[i];
  }
}

// To rows [first, first + n_rows) of out [n_tokens][n_out].
void add(const Addends& then, std::size_t first, std::size_t n_rows, std::size_t n_tokens, std::size_t n_out, float* out) {
  for (std::size_t t = 0; t < n_tokens; ++t) {
    float* const to = out + t * n_out + first;
    if (then.bias != nullptr) add_row(then.bias + first, n_rows, to);
    if (then.residual != nullptr) add_row(then.residual + t * n_out + first, n_rows, to);
  }
}

}  // namespace

std::vector<std::int64_t> usable_targets() {
  return hwy::SupportedAndGeneratedTargets();
}

}  // namespace packed_detail

using namespace packed_detail;

void q8_quantize(const float* in, std::int64_t n_in, std::int64_t n_tokens, Q8Block* out, int ith, int nth) {
  const std::size_t n_blocks = blocks_of(n_in) * static_cast<std::size_t>(n_tokens);
  const std::size_t first = n_blocks * static_cast<std::size_t>(ith) / static_cast<std::size_t>(nth);
  const std::size_t last = n_blocks * static_cast<std::size_t>(ith + 1) / static_cast<std::size_t>(nth);
  HWY_DYNAMIC_DISPATCH(quantize_blocks)(in + first * PackedMatrix::kBlock, last - first, out + first);
}

Result<std::size_t> PackedMatrix::panel_bytes(WeightType type, std::int64_t n_in, std::int64_t n_out) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // keeps every product below 2^63
  const FileBlock unit = file_block(type);
  if (n_in < unit.values || n_in % unit.values != 0 || n_out < 1 || n_in > kMost || n_out > kMost)
    return fail(ErrorKind::kInvalid, "a quantized matrix of {} x {} in blocks of {}", n_in, n_out, unit.values);
  return panels_of(n_out) * stride_of(layout_of(type), n_in);
}

Result<std::unique_ptr<PackedMatrix>> PackedMatrix::create(WeightType type, ByteView file, std::int64_t n_in,
                                                           std::int64_t n_out, int n_threads) {
  CELSLM_TRY(const std::size_t size, panel_bytes(type, n_in, n_out));
  const FileBlock unit = file_block(type);
  if (file.size() != static_cast<std::size_t>(n_in / unit.values * n_out) * unit.bytes)
    return fail(ErrorKind::kInvalid, "{} bytes for a quantized matrix of {} x {}", file.size(), n_in, n_out);
  const auto memory = panel_memory(size);
  if (memory == nullptr) return fail(ErrorKind::kOverloaded, "no memory for {} bytes of weights", size);
  const Shape shape{type, static_cast<std::size_t>(n_in), static_cast<std::size_t>(n_out)};
  CELSLM_CHECK_OK(pack_all(shape, file, memory.get(), n_threads));
  std::unique_ptr<PackedMatrix> out(new PackedMatrix(type, n_in, n_out, size));
  out->panels_ = memory.get();
  out->owner_ = memory;
  return out;
}

Result<std::unique_ptr<PackedMatrix>> PackedMatrix::view(WeightType type, ByteView panels, std::int64_t n_in,
                                                         std::int64_t n_out, std::shared_ptr<const void> owner) {
  CELSLM_TRY(const std::size_t size, panel_bytes(type, n_in, n_out));
  if (panels.size() != size)
    return fail(ErrorKind::kInvalid, "{} bytes of panels for a matrix of {} x {}, expected {}", panels.size(), n_in, n_out,
                size);
  std::unique_ptr<PackedMatrix> out(new PackedMatrix(type, n_in, n_out, size));
  out->panels_ = reinterpret_cast<const std::uint8_t*>(panels.data());
  out->owner_ = std::move(owner);
  return out;
}

void PackedMatrix::multiply(const Q8Block* x, std::int64_t n_tokens, float* out, int ith, int nth,
                            const Addends& then) const {
  const std::size_t stride = stride_of(layout_of(type_), n_in_);
  const auto n_out = static_cast<std::size_t>(n_out_);
  const std::size_t n_panels = panels_of(n_out_);
  const std::size_t last = n_panels * static_cast<std::size_t>(ith + 1) / static_cast<std::size_t>(nth);
  for (std::size_t p = n_panels * static_cast<std::size_t>(ith) / static_cast<std::size_t>(nth); p < last; ++p) {
    const std::size_t n_rows = std::min<std::size_t>(kRows, n_out - p * kRows);
    HWY_DYNAMIC_DISPATCH(multiply_panel)
    (type_, panels_ + p * stride, blocks_of(n_in_), x, static_cast<std::size_t>(n_tokens), out + p * kRows, n_out, n_rows);
    add(then, p * kRows, n_rows, static_cast<std::size_t>(n_tokens), n_out, out);
  }
}

}  // namespace celslm
#endif
