// Values by key, of which the least recently used is evicted first.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <optional>
#include <utility>

namespace celslm {

// The owner decides when something is evicted (by number, by size) and what must stay (because it is in use). Operations
// take logarithmic time, but for an eviction that passes over values in use. Not thread-safe.
template <typename Key, typename Value>
class Lru {
 public:
  // Counts as use; null where there is none. Valid until the value is replaced, erased or evicted.
  Value* find(const Key& key) {
    const auto it = places_.find(key);
    if (it == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, it->second);
    return &it->second->second;
  }

  // Replaces what is there; the value is then the most recently used. What was there comes back.
  std::optional<Value> put(const Key& key, Value value) {
    std::optional<Value> before = take(key);
    entries_.emplace_front(key, std::move(value));
    places_.emplace(key, entries_.begin());
    return before;
  }

  // Removes; nothing where there is none.
  std::optional<Value> take(const Key& key) {
    const auto it = places_.find(key);
    if (it == places_.end()) return std::nullopt;
    std::optional<Value> out = std::move(it->second->second);
    entries_.erase(it->second);
    places_.erase(it);
    return out;
  }

  // Removes the least recently used value that is not in use; nothing if there is none.
  template <typename InUse>
  std::optional<Value> evict(const InUse& in_use) {
    for (auto it = entries_.rbegin(); it != entries_.rend(); ++it) {
      if (!in_use(it->second)) return take(Key(it->first));
    }
    return std::nullopt;
  }
  std::optional<Value> evict() {
    return evict([](const Value&) { return false; });
  }

  std::size_t size() const { return entries_.size(); }

 private:
  std::list<std::pair<Key, Value>> entries_;  // the most recently used first
  std::map<Key, typename std::list<std::pair<Key, Value>>::iterator> places_;
};

}  // namespace celslm
