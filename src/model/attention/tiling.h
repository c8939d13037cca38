// The constants of the kernel's blocking, and which query vectors a thread answers for. No SIMD here.
//
// A query vector is one head of one row. The vectors of one KV head are numbered row * gqa + g, where gqa = n_heads /
// n_kv_heads, and head kv_head * gqa + g reads KV head kv_head. Putting KV heads side by side, `unit` = kv_head * n_rows *
// gqa + vector counts all work; a thread's share is a range of units.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/attention/attention.h"

namespace celslm::attention_detail {

// Keys that are scored, weighted and added in one step. Tiles start at multiples of it within a segment whatever the batch,
// which keeps a row's result independent of the other rows. 128 keys of 64 dimensions in f32, K and V: 64 KiB, streamed from
// the second-level cache once per register block. 64 keys measured 3 % slower: running maxima and sums are updated twice as
// often.
inline constexpr int kTile = 128;

// Query vectors that pass over a segment together: one conversion of each tile serves them all, and their state (running
// sums of head_dim values each) stays in the second-level cache.
inline constexpr int kMaxVectors = 256;

inline constexpr std::size_t kAlignment = 64;  // bytes; the widest vector

using Seen = AttentionSeen;

// What the row sees of the group's segment; nothing for rows outside of the group.
Seen seen_by(const AttentionGroup& group, int row);

struct UnitRange {
  std::size_t first = 0;
  std::size_t last = 0;
};

// The share of thread `ith` of `nth`: ranges that cover all units, of about equal cost. `costs` is scratch.
UnitRange share_of(const AttentionArgs& args, int ith, int nth, std::vector<std::size_t>& costs);

// The instruction sets that the kernel is compiled for and this machine has, as Highway's bits: for the tests.
std::vector<std::int64_t> usable_targets();

}  // namespace celslm::attention_detail
