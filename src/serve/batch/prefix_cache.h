// KV of conversations that have ended, for requests that begin as they did.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
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

  // What KV is behind, and whose it is: it is used again only where all of it is the same.
  struct Place {
    std::shared_ptr<ResidentContext> context;  // null: none
    int n_context = 0;                         // tokens of it
    std::string owner;
  };

  // The longest beginning of `tokens` that is kept at this place.
  Match find(const Place& place, std::span<const Token> tokens);

  // Keeps a conversation of which `segment` holds all `tokens`. `bytes` is what it counts for. Replaces those that it
  // continues.
  void keep(const Place& place, std::vector<Token> tokens, std::shared_ptr<const KvSegment> segment, std::uint64_t bytes);

  // Drops the least recently used until at most so many bytes are kept.
  void shrink_to(std::uint64_t bytes);
  std::uint64_t bytes() const { return bytes_; }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::weak_ptr<ResidentContext> context;
    bool has_context = false;
    int n_context = 0;
    std::string owner;
    std::vector<Token> tokens;
    std::shared_ptr<const KvSegment> segment;
    std::uint64_t bytes = 0;

    bool at(const Place& place) const {
      if (owner != place.owner || n_context != place.n_context || has_context != (place.context != nullptr)) return false;
      return !has_context || context.lock() == place.context;
    }
  };
  void drop_orphans();  // whose context has left memory: its KV may come back with other bits

  std::list<Entry> entries_;  // the most recently used first
  std::uint64_t bytes_ = 0;
};

}  // namespace celslm
