// What the fleet's distributed state needs of a key-value server: the only interface through which nodes share anything.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/result.h"

namespace celslm {

// All times are the store's own: a key lives for its TTL by the clock of the server, whatever the nodes' clocks show. Each
// call takes a bounded time and a bounded reply. Used by one thread at a time.
//
// Errors of every call: kUnavailable (no server, or one that does not answer in time; the next call tries again),
// kUnauthorized (password), kOverloaded (the server's memory is full), kInvalid (a reply that is not what was asked for, or
// larger than its limit).
class Store {
 public:
  virtual ~Store() = default;

  // The values, each up to max_bytes + 1 bytes: what has more is too long, and the rest of it is not sent. nullopt: no such
  // key, or not a plain value.
  virtual Result<std::vector<std::optional<std::string>>> get_all(std::span<const std::string> keys,
                                                                  std::size_t max_bytes) = 0;
  virtual Status set(const std::string& key, const std::string& value, Duration ttl) = 0;
  // The key lives for this long from now on; false if there is none.
  virtual Result<bool> extend(const std::string& key, Duration ttl) = 0;
  virtual Status remove(const std::string& key) = 0;

  // A lease: `key` is `owner`'s for this long from now on, unless it is another's, which false tells. Atomic.
  virtual Result<bool> hold(const std::string& key, const std::string& owner, Duration ttl) = 0;
  // Gives it up if it is the owner's. Atomic.
  virtual Status release(const std::string& key, const std::string& owner) = 0;

  // Sets. Adding sets the TTL of the complete set.
  virtual Status add(const std::string& set, const std::string& member, Duration ttl) = 0;
  virtual Status discard(const std::string& set, std::span<const std::string> members) = 0;
  // All members if there are at most so many, and otherwise `most` of them by chance.
  virtual Result<std::vector<std::string>> sample(const std::string& set, std::size_t most) = 0;

  // Streams: work, each entry of which one consumer of a group takes. What a consumer took is its own until done(), or until
  // it has been silent about it for so long that another takes it over. The group comes into being when it is first named.
  struct Entry {
    std::string id;
    std::string value;            // empty if it has more than kMaxEntryBytes
    std::int64_t deliveries = 1;  // to consumers so far, this one included
  };
  static constexpr std::size_t kMaxEntryBytes = 4096;
  // About `most` entries stay, the newest ones.
  virtual Status append(const std::string& stream, const std::string& value, std::size_t most, Duration ttl) = 0;
  // The oldest entry that nobody has taken; nullopt: there is none. Does not wait for one.
  virtual Result<std::optional<Entry>> take(const std::string& stream, const std::string& group,
                                            const std::string& consumer) = 0;
  // One that a consumer took and was silent about for so long.
  virtual Result<std::optional<Entry>> take_over(const std::string& stream, const std::string& group,
                                                 const std::string& consumer, Duration silence) = 0;
  // The consumer is still working on it.
  virtual Status keep(const std::string& stream, const std::string& group, const std::string& consumer,
                      const std::string& id) = 0;
  // It is finished, and gone.
  virtual Status done(const std::string& stream, const std::string& group, const std::string& id) = 0;
};

}  // namespace celslm
