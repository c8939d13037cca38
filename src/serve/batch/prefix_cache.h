// KV of conversations that have ended, for requests that begin as they did.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "model/kv/kv_segment.h"
#include "model/text/text.h"
#include "serve/context/resident_context.h"

namespace celslm {

// Tokens in common from which on KV is kept and copied; for fewer, nobody would notice the difference.
inline constexpr int kMinPrefix = 32;

// How many tokens two sequences have in common from the start.
int common_prefix(std::span<const Token> a, std::span<const Token> b);

// Bounded from outside: the owner of the memory budget calls shrink_to(). Used by one thread.
class PrefixCache {
 public:
  // Rows to copy: the first n_tokens of `segment` are those of the tokens asked for. n_tokens is 0 where there are none.
  struct Match {
    std::shared_ptr<const KvSegment> segment;
    int n_tokens = 0;
  };

  // The longest beginning of `tokens` that is kept behind the same context (null: behind none).
  Match find(const std::shared_ptr<ResidentContext>& context, std::span<const Token> tokens);

  // Keeps a conversation of which `segment` holds all `tokens`. `bytes` is what it counts for. Replaces those that it
  // continues.
  void keep(const std::shared_ptr<ResidentContext>& context, std::vector<Token> tokens,
            std::shared_ptr<const KvSegment> segment, std::uint64_t bytes);

  // Drops the least recently used until at most so many bytes are kept.
  void shrink_to(std::uint64_t bytes);
  std::uint64_t bytes() const { return bytes_; }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::weak_ptr<ResidentContext> context;
    bool has_context = false;
    std::vector<Token> tokens;
    std::shared_ptr<const KvSegment> segment;
    std::uint64_t bytes = 0;

    bool behind(const std::shared_ptr<ResidentContext>& other) const {
      return has_context ? other != nullptr && context.lock() == other : other == nullptr;
    }
  };
  void drop_orphans();  // whose context has left memory: its KV may come back with other bits

  std::list<Entry> entries_;  // the most recently used first
  std::uint64_t bytes_ = 0;
};

}  // namespace celslm
