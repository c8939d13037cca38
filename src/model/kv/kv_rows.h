// Rows of K and V into a segment's storage: the one place where K is rounded, biased, rotated and rounded again.
#pragma once

#include <cstddef>
#include <span>

#include "model/kv/kv_segment.h"
#include "model/kv/rope.h"

namespace celslm {

// Rounds to nearest even. `out` is values of `type`. False if one became infinite.
bool round_to(KvType type, std::span<const float> in, void* out);
// What K is rounded to before RoPE, widened back to f32: `type`, or f16 for kQ8. in and out may be the same memory.
void round_values(KvType type, std::span<const float> in, float* out);

// Where a layer's rows go.
struct KvRows {
  KvType type = KvType::kF16;
  void* k = nullptr;  // [n_kv_heads][capacity] rows
  void* v = nullptr;
  int capacity = 0;
  int head_dim = 0;
  const float* k_bias = nullptr;  // [n_kv_heads][head_dim], or null: the model adds none to K
  const float* k_gain = nullptr;  // [head_dim]: K is multiplied by it after RoPE; or null
};

KvRows rows_of(KvSegment& segment, int layer, const float* k_bias, const float* k_gain = nullptr);
std::byte* key_row(const KvRows& rows, int head, int row);
std::byte* value_row(const KvRows& rows, int head, int row);

// Floats of scratch that store_key() needs for a row.
constexpr std::size_t key_scratch(int head_dim) {
  return 3 * static_cast<std::size_t>(head_dim);
}
// K of one token and one KV head, before RoPE and without the bias, into row `row`; [head_dim]. The first head_dim values of
// the scratch are K rounded before bias and RoPE afterwards. False if a value became infinite: bias and rotation can make
// one of numbers that the type holds.
bool store_key(const KvRows& rows, const Rope& rope, int head, int row, const float* k, RopeAngles angles, float* scratch);
bool store_value(const KvRows& rows, int head, int row, const float* v);
// As store_key(), with the same bits, in one pass over the row where the type is f16; what is in the scratch is unspecified.
bool place_key(const KvRows& rows, const Rope& rope, int head, int row, const float* k, RopeAngles angles, float* scratch);

}  // namespace celslm
