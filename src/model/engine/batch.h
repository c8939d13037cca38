// What goes through a model's layers together: new tokens of many sequences, and their hidden states.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/kv/kv_segment.h"

namespace celslm {

// Consecutive new tokens of one sequence.
struct SequenceChunk {
  std::shared_ptr<const KvSegment>
      context;                     // the frozen part before `own`, or null; rows [0, context->length()) are attended
  std::shared_ptr<KvSegment> own;  // receives the new tokens' KV; its rows [0, own_length) are attended too; begins at
                                   // context->next_position(); not condensed
  int own_length = 0;              // rows of `own` before this chunk; the new rows follow, causally
  int n_tokens = 0;
  // context's layers [0, ready) only are needed by run_layers(.., last <= ready).
  // Of the context's rows, those that are attended, from the first on: `own` begins at that position. A condensed context is
  // attended in full or not at all, since its rows stand for tokens from all over it.
  std::optional<int> context_rows = {};  // absent: all
};

// A layer of the chunk's context as the chunk sees it; empty without one.
inline KvView context_view(const SequenceChunk& chunk, int layer) {
  if (chunk.context == nullptr) return {};
  KvView out = chunk.context->view(layer);
  out.length = chunk.context_rows.value_or(out.length);
  return out;
}

// The last row of each chunk, of all rows of the batch.
inline std::vector<int> last_rows(std::span<const SequenceChunk> batch) {
  std::vector<int> out;
  out.reserve(batch.size());
  for (const SequenceChunk& chunk : batch) out.push_back((out.empty() ? -1 : out.back()) + chunk.n_tokens);
  return out;
}

// Hidden states of a batch, [n_tokens][n_embd], the chunks' tokens one after the other.
struct Hidden {
  std::vector<float> values;
  int n_tokens = 0;
};

// K before RoPE and without the layer's bias (rounded to the segment's type) and V of the batch's tokens in one layer, both
// [n_tokens][kv_width] in f32. Called on the engine's calling thread, once per layer that has rows, in order. The views die
// with the call.
using KvTap = std::function<void(int layer, std::span<const float> k, std::span<const float> v)>;

}  // namespace celslm
