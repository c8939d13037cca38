// Attention of a batch of query rows over segments of KV, without ggml: the kernel behind AttentionPath::kFused.
//
// Softmax runs over the concatenation of a row's segments (running max and sum; the paper's Eq. 5), so a shared context is
// read once for all rows that attend to it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/kv_segment.h"

namespace celslm {

// Rows [first_row, first_row + n_rows) of the batch attend to one segment. Row i (0-based within the group) sees the first
// `visible + i * causal` tokens of it: causal = 1 for a chunk's own rows, 0 for a context.
struct AttentionGroup {
  KvView kv;
  int first_row = 0;
  int n_rows = 0;
  int visible = 0;
  int causal = 0;
};

struct AttentionArgs {
  const float* q = nullptr;  // [n_rows][n_heads][head_dim], after RoPE
  float* out = nullptr;      // the same shape
  int n_rows = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  float scale = 1.0F;
  // Every row is in at least one group; a row may be in several (context and own). Groups that share a KvView (same k) are
  // adjacent, so that the kernel can treat their rows as one product.
  std::span<const AttentionGroup> groups;
};

// Scratch for one thread of one call, re-used between calls. Its contents mean nothing between them.
struct AttentionScratch {
  struct Vector {
    int index;
    int visible;
  };
  std::vector<float> values;
  std::vector<std::size_t> costs;
  std::vector<Vector> vectors;
};

// Thread `ith` of `nth` computes its share; the threads together write every element of out. Each runs without waiting for
// another, needs its own scratch, and the result does not depend on nth beyond rounding. No allocation after the first call
// of a size.
void attention(const AttentionArgs& args, int ith, int nth, AttentionScratch& scratch);

// The same in plain loops and double sums: what the tests compare with.
void attention_reference(const AttentionArgs& args);

}  // namespace celslm
