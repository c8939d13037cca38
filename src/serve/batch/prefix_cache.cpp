#include "serve/batch/prefix_cache.h"

#include <algorithm>

namespace celslm {

int common_prefix(std::span<const Token> a, std::span<const Token> b) {
  const auto end = std::ranges::mismatch(a, b).in1;
  return static_cast<int>(end - a.begin());
}

PrefixCache::Match PrefixCache::find(const Place& place, std::span<const Token> tokens) {
  drop_orphans();
  Match best;
  auto found = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (!it->at(place)) continue;
    const int n = common_prefix(it->tokens, tokens);
    if (n <= best.n_tokens) continue;
    best = {it->segment, n};
    found = it;
  }
  if (found != entries_.end()) entries_.splice(entries_.begin(), entries_, found);
  return best;
}

void PrefixCache::keep(const Place& place, std::vector<Token> tokens, std::shared_ptr<const KvSegment> segment,
                       std::uint64_t bytes) {
  std::erase_if(entries_, [&](const Entry& entry) {
    const bool continued = entry.at(place) && common_prefix(entry.tokens, tokens) == static_cast<int>(entry.tokens.size());
    if (continued) bytes_ -= entry.bytes;
    return continued;
  });
  entries_.push_front({.context = place.context,
                       .has_context = place.context != nullptr,
                       .n_context = place.n_context,
                       .owner = place.owner,
                       .tokens = std::move(tokens),
                       .segment = std::move(segment),
                       .bytes = bytes});
  bytes_ += bytes;
}

void PrefixCache::shrink_to(std::uint64_t bytes) {
  drop_orphans();
  while (bytes_ > bytes && !entries_.empty()) {
    bytes_ -= entries_.back().bytes;
    entries_.pop_back();
  }
}

void PrefixCache::drop_orphans() {
  std::erase_if(entries_, [&](const Entry& entry) {
    const bool orphan = entry.has_context && entry.context.expired();
    if (orphan) bytes_ -= entry.bytes;
    return orphan;
  });
}

}  // namespace celslm
