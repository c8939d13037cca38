// Rows of K and V into a segment's storage: the one place where K is rounded, rotated and rounded again.
#pragma once

#include <cstddef>
#include <span>

#include "model/kv/kv_segment.h"
#include "model/kv/rope.h"

namespace celslm {

// Rounds to nearest even. `out` is values of `type`.
void round_to(KvType type, std::span<const float> in, void* out);
// What K is rounded to before RoPE, widened back to f32: `type`, or f16 for kQ8. in and out may be the same memory.
void round_values(KvType type, std::span<const float> in, float* out);

// Where a layer's rows go.
struct KvRows {
  KvType type = KvType::kF16;
  void* k = nullptr;  // [n_kv_heads][capacity] rows
  void* v = nullptr;
  int capacity = 0;
  int head_dim = 0;
};

// K of one token and one KV head, before RoPE, into row `row`; [head_dim]. scratch: [2 * head_dim]; its first half holds K
// rounded before RoPE afterwards.
void store_key(const KvRows& rows, const Rope& rope, int head, int row, const float* k, RopeAngles angles, float* scratch);
void store_value(const KvRows& rows, int head, int row, const float* v);

}  // namespace celslm
