#include "model/kv/kv_rows.h"

#include <cstring>

#include "model/numeric/convert.h"

namespace celslm {

void round_to(KvType type, std::span<const float> in, void* out) {
  auto* bytes = static_cast<std::byte*>(out);
  switch (type) {
    case KvType::kF32: std::memcpy(out, in.data(), in.size_bytes()); break;
    case KvType::kF16: f16_from_f32(in.data(), bytes, in.size()); break;
    case KvType::kBf16: bf16_from_f32(in.data(), bytes, in.size()); break;
    case KvType::kQ8: q8_0_from_f32(in.data(), bytes, in.size()); break;
  }
}

void round_values(KvType type, std::span<const float> in, float* out) {
  switch (type) {
    case KvType::kF32: std::memmove(out, in.data(), in.size_bytes()); break;
    case KvType::kQ8:
    case KvType::kF16: f32_through_f16(in.data(), out, in.size()); break;
    case KvType::kBf16: f32_through_bf16(in.data(), out, in.size()); break;
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
