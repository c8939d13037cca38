// One KV head's K after RoPE and V of a segment, as matrices.
#pragma once

#include "align/map/eigen.h"
#include "core/result.h"
#include "model/kv/kv_segment.h"

namespace celslm {

struct HeadRows {
  MatrixF k;  // [length][head_dim], after RoPE
  MatrixF v;  // the same shape
};

// segment: f16 or f32 (kInvalid otherwise), its layer complete.
Result<HeadRows> head_rows(const KvSegment& segment, int layer, int kv_head);

}  // namespace celslm
