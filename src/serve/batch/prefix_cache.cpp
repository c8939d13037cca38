#include "serve/batch/prefix_cache.h"

#include <algorithm>

namespace celslm {

int common_prefix(std::span<const Token> a, std::span<const Token> b) {
  const auto end = std::ranges::mismatch(a, b).in1;
  return static_cast<int>(end - a.begin());
}

PrefixCache::Match PrefixCache::find(const Place& place, std::span<const Token> tokens) {
  const MutexLock lock(mutex_);
  drop_expired();
  Match best;
  auto found = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (!it->at(place)) continue;
    const int n = it->segment->copyable(common_prefix(it->tokens, tokens));
    if (n <= best.n_tokens) continue;
    best = {it->segment, n};
    found = it;
  }
  if (found != entries_.end()) {
    found->used = clock_.now();
    entries_.splice(entries_.begin(), entries_, found);
  }
  return best;
}

void PrefixCache::keep(const Place& place, std::vector<Token> tokens, std::shared_ptr<const KvSegment> segment,
                       std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) CELSLM_REQUIRES(mutex_) {
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
                       .bytes = bytes,
                       .used = clock_.now()});
  bytes_ += bytes;
  drop_expired();
}

void PrefixCache::shrink_to(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  drop_expired();
  shrink(bytes);
}

void PrefixCache::free(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  shrink(bytes_ - std::min(bytes_, bytes));
}

std::uint64_t PrefixCache::bytes() const {
  const MutexLock lock(mutex_);
  return bytes_;
}

std::size_t PrefixCache::size() const {
  const MutexLock lock(mutex_);
  return entries_.size();
}

void PrefixCache::drop_last() {
  bytes_ -= entries_.back().bytes;
  entries_.pop_back();
}

void PrefixCache::shrink(std::uint64_t bytes) {
  while (bytes_ > bytes && !entries_.empty()) drop_last();
  lease_.resize_over_limit(bytes_);
}

void PrefixCache::drop_expired() {
  std::erase_if(entries_, [&](const Entry& entry) CELSLM_REQUIRES(mutex_) {
    const bool orphan = entry.has_context && entry.context.expired();
    if (orphan) bytes_ -= entry.bytes;
    return orphan;
  });
  const TimePoint oldest = clock_.now() - limits_.max_age;
  while (!entries_.empty() && (entries_.size() > limits_.most || entries_.back().used < oldest)) drop_last();
  lease_.resize_over_limit(bytes_);
}

}  // namespace celslm
