// KV of conversations that have ended, for requests that begin as they did.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/memory_ledger.h"
#include "core/mutex.h"
#include "model/kv/kv_segment.h"
#include "model/text/text.h"
#include "serve/context/resident_context.h"

namespace celslm {

// Tokens in common from which on KV is kept and copied; for fewer, nobody would notice the difference.
inline constexpr int kMinPrefix = 32;

// How many tokens two sequences have in common from the start.
int common_prefix(std::span<const Token> a, std::span<const Token> b);

struct PrefixLimits {
  std::size_t most = 256;                       // prefixes: each request is compared with all of them
  Duration max_age = std::chrono::minutes(15);  // since the last use
};

// Bounded in number and age here, in bytes from outside: the owner of the memory budget calls shrink_to(), whoever needs
// memory free(). Thread-safe. Clock and ledger must outlive this.
class PrefixCache {
 public:
  // What is kept is in the ledger's account "kept prefixes".
  PrefixCache(const Clock& clock, MemoryLedger& memory, const PrefixLimits& limits = {})
      : clock_(clock), limits_(limits), lease_(memory.note("kept prefixes", 0)) {}

  // Rows to copy: the first n_tokens of `segment` are those of the tokens asked for. n_tokens is 0 where there are none.
  struct Match {
    std::shared_ptr<const KvSegment> segment;
    int n_tokens = 0;
  };

  // What KV is behind, and whose it is: it is used again only where all of it is the same.
  struct Place {
    std::shared_ptr<ResidentContext> context;  // null: none
    int n_context = 0;                         // tokens of it
    std::string owner;
  };

  // The longest beginning of `tokens` that is kept at this place.
  Match find(const Place& place, std::span<const Token> tokens) CELSLM_EXCLUDES(mutex_);

  // Keeps a conversation of which `segment` holds all `tokens`. `bytes` is what it counts for. Replaces those that it
  // continues.
  void keep(const Place& place, std::vector<Token> tokens, std::shared_ptr<const KvSegment> segment, std::uint64_t bytes)
      CELSLM_EXCLUDES(mutex_);

  // Drops the least recently used until at most so many bytes are kept.
  void shrink_to(std::uint64_t bytes) CELSLM_EXCLUDES(mutex_);
  // Drops the least recently used until so many bytes are free again, or nothing is kept.
  void free(std::uint64_t bytes) CELSLM_EXCLUDES(mutex_);
  std::uint64_t bytes() const CELSLM_EXCLUDES(mutex_);
  std::size_t size() const CELSLM_EXCLUDES(mutex_);

 private:
  struct Entry {
    std::weak_ptr<ResidentContext> context;
    bool has_context = false;
    int n_context = 0;
    std::string owner;
    std::vector<Token> tokens;
    std::shared_ptr<const KvSegment> segment;
    std::uint64_t bytes = 0;
    TimePoint used{};

    bool at(const Place& place) const {
      if (owner != place.owner || n_context != place.n_context || has_context != (place.context != nullptr)) return false;
      return !has_context || context.lock() == place.context;
    }
  };
  // Those that are too old or too many, and those whose context has left memory: its KV may come back with other bits.
  void drop_expired() CELSLM_REQUIRES(mutex_);
  void drop_last() CELSLM_REQUIRES(mutex_);
  void shrink(std::uint64_t bytes) CELSLM_REQUIRES(mutex_);

  const Clock& clock_;
  const PrefixLimits limits_;
  mutable Mutex mutex_;
  std::list<Entry> entries_ CELSLM_GUARDED_BY(mutex_);  // the most recently used first
  std::uint64_t bytes_ CELSLM_GUARDED_BY(mutex_) = 0;
  MemoryLease lease_ CELSLM_GUARDED_BY(mutex_);  // of bytes_
};

}  // namespace celslm
