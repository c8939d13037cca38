#include "model/kv/kv_rows.h"

#include <bit>
#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/kv/kv_rows.cpp"
#include <hwy/foreach_target.h>  // compiles the part below once per instruction set
#include <hwy/highway.h>

#include "model/numeric/round-inl.h"

HWY_BEFORE_NAMESPACE();
namespace celslm::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void to_f16(const float* in, hwy::float16_t* out, std::size_t n) {
  const hn::ScalableTag<float> f32;
  const hn::Rebind<hwy::float16_t, decltype(f32)> f16;
  const std::size_t lanes = hn::Lanes(f32);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::DemoteTo(f16, hn::LoadU(f32, in + i)), f16, out + i);
  if (i < n) hn::StoreN(hn::DemoteTo(f16, hn::LoadN(f32, in + i, n - i)), f16, out + i, n - i);
}

void through_f16(const float* in, float* out, std::size_t n) {
  const hn::ScalableTag<float> f32;
  const hn::Rebind<hwy::float16_t, decltype(f32)> f16;
  const std::size_t lanes = hn::Lanes(f32);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::PromoteTo(f32, hn::DemoteTo(f16, hn::LoadU(f32, in + i))), f32, out + i);
  if (i < n) hn::StoreN(hn::PromoteTo(f32, hn::DemoteTo(f16, hn::LoadN(f32, in + i, n - i))), f32, out + i, n - i);
}

// n is a multiple of kQ8Values.
void to_q8(const float* in, std::byte* out, std::size_t n) {
  for (std::size_t i = 0; i < n; i += kQ8Values, out += kQ8Bytes) {
    const float scale = q8_detail::HWY_NAMESPACE::round_block(in + i, reinterpret_cast<std::int8_t*>(out) + 2);
    const auto stored = hwy::F16FromF32(scale);
    std::memcpy(out, &stored, 2);
  }
}

}  // namespace celslm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace celslm {
namespace {

HWY_EXPORT(to_f16);
HWY_EXPORT(through_f16);
HWY_EXPORT(to_q8);

// Nearest even; a NaN keeps its sign and becomes quiet rather than an infinity.
std::uint32_t bf16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return bits >> 16 | 64U;
  return (bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16;
}

}  // namespace

void round_to(KvType type, std::span<const float> in, void* out) {
  switch (type) {
    case KvType::kF32: std::memcpy(out, in.data(), in.size_bytes()); break;
    case KvType::kF16: HWY_DYNAMIC_DISPATCH(to_f16)(in.data(), static_cast<hwy::float16_t*>(out), in.size()); break;
    case KvType::kBf16: {
      auto* to = static_cast<std::uint16_t*>(out);
      for (std::size_t i = 0; i < in.size(); ++i) to[i] = static_cast<std::uint16_t>(bf16_bits(in[i]));
      break;
    }
    case KvType::kQ8: HWY_DYNAMIC_DISPATCH(to_q8)(in.data(), static_cast<std::byte*>(out), in.size()); break;
  }
}

void round_values(KvType type, std::span<const float> in, float* out) {
  switch (type) {
    case KvType::kF32: std::memmove(out, in.data(), in.size_bytes()); break;
    case KvType::kQ8:
    case KvType::kF16: HWY_DYNAMIC_DISPATCH(through_f16)(in.data(), out, in.size()); break;
    case KvType::kBf16:
      for (std::size_t i = 0; i < in.size(); ++i) out[i] = std::bit_cast<float>(bf16_bits(in[i]) << 16);
      break;
  }
}

namespace {

std::size_t byte_offset(const KvRows& rows, int head, int row) {
  const std::size_t index =
      static_cast<std::size_t>(head) * static_cast<std::size_t>(rows.capacity) + static_cast<std::size_t>(row);
  return index * row_bytes(rows.type, rows.head_dim);
}

}  // namespace

void store_key(const KvRows& rows, const Rope& rope, int head, int row, const float* k, RopeAngles angles, float* scratch) {
  const auto n = static_cast<std::size_t>(rows.head_dim);
  round_values(rows.type, {k, n}, scratch);
  rope.rotate({scratch, n}, angles, scratch + n);
  round_to(rows.type, {scratch + n, n}, static_cast<std::byte*>(rows.k) + byte_offset(rows, head, row));
}

void store_value(const KvRows& rows, int head, int row, const float* v) {
  round_to(rows.type, {v, static_cast<std::size_t>(rows.head_dim)},
           static_cast<std::byte*>(rows.v) + byte_offset(rows, head, row));
}

}  // namespace celslm
#endif
