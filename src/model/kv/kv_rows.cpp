#include "model/kv/kv_rows.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "model/numeric/convert.h"

namespace celslm {

bool round_to(KvType type, std::span<const float> in, void* out) {
  auto* bytes = static_cast<std::byte*>(out);
  switch (type) {
    case KvType::kF32: std::memcpy(out, in.data(), in.size_bytes()); break;
    case KvType::kF16: return f16_from_f32(in.data(), bytes, in.size());
    case KvType::kBf16: return bf16_from_f32(in.data(), bytes, in.size());
    case KvType::kQ8: q8_0_from_f32(in.data(), bytes, in.size()); break;
  }
  return true;
}

void round_values(KvType type, std::span<const float> in, float* out) {
  switch (type) {
    case KvType::kF32: std::memmove(out, in.data(), in.size_bytes()); break;
    case KvType::kQ8:
    case KvType::kF16: f32_through_f16(in.data(), out, in.size()); break;
    case KvType::kBf16: f32_through_bf16(in.data(), out, in.size()); break;
  }
}

KvRows rows_of(KvSegment& segment, int layer, const float* k_bias, const float* k_gain) {
  return {.type = segment.type(),
          .k = segment.k_data(layer),
          .v = segment.v_data(layer),
          .capacity = segment.capacity(),
          .head_dim = segment.head_dim(),
          .k_bias = k_bias,
          .k_gain = k_gain};
}

namespace {

std::size_t byte_offset(const KvRows& rows, int head, int row) {
  const std::size_t index =
      static_cast<std::size_t>(head) * static_cast<std::size_t>(rows.capacity) + static_cast<std::size_t>(row);
  return index * row_bytes(rows.type, rows.head_dim);
}

}  // namespace

std::byte* key_row(const KvRows& rows, int head, int row) {
  return static_cast<std::byte*>(rows.k) + byte_offset(rows, head, row);
}

std::byte* value_row(const KvRows& rows, int head, int row) {
  return static_cast<std::byte*>(rows.v) + byte_offset(rows, head, row);
}

bool store_key(const KvRows& rows, const Rope& rope, int head, int row, const float* k, RopeAngles angles, float* scratch) {
  const auto n = static_cast<std::size_t>(rows.head_dim);
  round_values(rows.type, {k, n}, scratch);
  const float* complete = scratch;
  float* const rotated = scratch + 2 * n;
  if (rows.k_bias != nullptr) {
    const float* bias = rows.k_bias + static_cast<std::size_t>(head) * n;
    std::transform(scratch, scratch + n, bias, scratch + n, std::plus());
    complete = scratch + n;
  }
  rope.rotate({complete, n}, angles, rotated);
  if (rows.k_gain != nullptr) std::transform(rotated, rotated + n, rows.k_gain, rotated, std::multiplies());
  return round_to(rows.type, {rotated, n}, key_row(rows, head, row));
}

bool store_value(const KvRows& rows, int head, int row, const float* v) {
  return round_to(rows.type, {v, static_cast<std::size_t>(rows.head_dim)}, value_row(rows, head, row));
}

}  // namespace celslm
