// What the operator of an edge sets about batching, and what is counted of it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/memory_ledger.h"
#include "model/kv/kv_segment.h"

namespace celslm {

struct BatchOptions {
  int max_running = 32;                        // requests in the batch
  int max_queued = 128;                        // beyond these, submit() returns kOverloaded
  KvType kv_type = KvType::kF16;               // of requests without a context; others take their context's (f16 behind q8)
  std::uint64_t kv_budget_bytes = 2ULL << 30;  // of requests' own KV, kept prefixes included
  bool reuse_prefixes = true;
  std::size_t max_kept_prefixes = 256;
  std::chrono::milliseconds max_kept_age = std::chrono::minutes(15);  // since a kept prefix was last used
  bool share_prefixes = false;  // KV that a request leaves behind is used for all, not for its owner's requests only
  std::chrono::milliseconds max_stall{100};  // how long a step may hold up requests that are being answered
  // What the process may hold in all, of which the budget above is a part. Never null.
  std::shared_ptr<MemoryLedger> memory = std::make_shared<MemoryLedger>();
};

// What is given up first where memory is needed: see MemoryLedger::add_reclaimer().
inline constexpr int kReclaimPrefixes = 1;
inline constexpr int kReclaimContexts = 2;

struct BatchStats {
  std::uint64_t steps = 0;
  std::uint64_t prompt_tokens = 0;  // computed
  std::uint64_t reused_tokens = 0;  // of prompts, copied from earlier requests instead
  std::uint64_t completion_tokens = 0;
  std::uint64_t finished = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t failed = 0;
  std::uint64_t preempted = 0;  // times a request lost its KV and had to wait again
  std::uint64_t own_kv_bytes = 0;
  std::uint64_t kept_kv_bytes = 0;
  int running = 0;
  int queued = 0;
};

}  // namespace celslm
