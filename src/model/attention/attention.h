// Attention of a batch of query rows over segments of KV, without ggml: the kernel behind KernelPath::kFused.
//
// Softmax runs over the concatenation of a row's segments (running max and sum; the paper's Eq. 5), so a shared context is
// read once for all rows that attend to it.
//
// Where a segment has log masses, each key's is added to its scaled scores: a key of mass log(2) weighs as much as two equal
// keys. Segments without them are computed as if there were no such thing; log masses of 0 give the same bits.
//
// All arithmetic is in f32 on the exact values of K and V, whatever their type. Rounding: a score is off by at most
// (head_dim + 2) 2^-24 scale sum|q_d k_d|, a weight by the factor e^(that) and 4e-7 more, an output by its weights' errors
// and 2^-24 per key. bf16 dot products would be up to twice as fast on bf16 KV, but round q and the weights to 8 bits.
//
// The bits of a row's result depend on the row, on what it sees and on the order of its groups: not on the other rows of the
// batch, nor on the number of threads. They do differ from one instruction set to another.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/kv/kv_segment.h"

namespace celslm {

// Rows [first_row, first_row + n_rows) of the batch attend to one segment. Row i (0-based within the group) sees the first
// `visible + i * causal` tokens of it: causal = 1 for a chunk's own rows, 0 for a context.
// visible counts beyond the segment's capacity are cut off there; tokens that no row sees are never read.
// With a sliding window it does not see the first `hidden + i * sliding` of them, where that is positive: each row's window
// begins one token behind the row's before, in a context too.
struct AttentionGroup {
  KvView kv;
  int first_row = 0;
  int n_rows = 0;
  int visible = 0;
  int causal = 0;
  int hidden = 0;
  int sliding = 0;  // 1 with a sliding window
};

struct AttentionArgs {
  const float* q = nullptr;  // [n_rows][n_heads][head_dim], after RoPE
  float* out = nullptr;      // the same shape
  int n_rows = 0;
  int n_heads = 0;  // a multiple of n_kv_heads; head h reads KV head h / (n_heads / n_kv_heads)
  int n_kv_heads = 0;
  int head_dim = 0;  // a multiple of 8
  float scale = 1.0F;
  const float* sinks = nullptr;  // [n_heads]: the score of a key without a value that each row of the head sees; null: none
  // A row may be in several groups (context and own); in none, or where it sees nothing, its output is zero. Groups that
  // share a segment (the same kv.k), adjacent and in ascending order of their rows, are treated as one product.
  std::span<const AttentionGroup> groups;
};

// Tokens [first, last) of a segment.
struct AttentionSeen {
  int first = 0;
  int last = 0;
  int count() const { return last - first; }
};

// Scratch for one thread of one call, re-used between calls. Its contents mean nothing between them.
struct AttentionScratch {
  struct Vector {
    int index;
    AttentionSeen seen;
  };
  std::vector<float> values;
  std::vector<std::size_t> costs;
  std::vector<Vector> vectors;
};

// Thread `ith` of `nth` computes its share; the threads together write every element of out. Each runs without waiting for
// another and needs its own scratch. Shares are of about equal cost, in units of one head of one row, so that even one row
// keeps up to n_heads threads busy. No allocation after the first call of a size; scratch is about
// (256 + 128) * 2 * head_dim floats, whatever the number of keys. Shapes are the caller's to check.
void attention(const AttentionArgs& args, int ith, int nth, AttentionScratch& scratch);

// The same in plain loops and double sums: what the tests compare with.
void attention_reference(const AttentionArgs& args);

}  // namespace celslm
