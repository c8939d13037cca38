// How a server's memory is divided where its operator has not said.
#pragma once

#include <cstdint>

namespace celslm {

struct MemoryPlan {
  std::uint64_t context_bytes = 0;  // for contexts' KV
  std::uint64_t request_bytes = 0;  // for requests' own KV and kept prefixes
};

// What a process keeps of what the system allows: a tenth is left to what no ledger counts.
constexpr std::uint64_t default_memory_limit(std::uint64_t allowed_bytes) {
  return allowed_bytes / 10 * 9;
}

// limit: of the ledger. fixed: program and model. Half of what they leave is for contexts, a quarter for requests; the rest
// is for contexts while they are computed, for bodies and for tokenizing. Where they leave almost nothing, an eighth of the
// limit is divided all the same: pages of a model's file can be dropped and read again.
constexpr MemoryPlan plan_memory(std::uint64_t limit_bytes, std::uint64_t fixed_bytes) {
  const std::uint64_t left = limit_bytes > fixed_bytes ? limit_bytes - fixed_bytes : 0;
  const std::uint64_t divided = left > limit_bytes / 8 ? left : limit_bytes / 8;
  return {.context_bytes = divided / 2, .request_bytes = divided / 4};
}

}  // namespace celslm
