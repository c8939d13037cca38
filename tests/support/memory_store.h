// A Store in memory, by an injected clock, that can be down.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>

#include "core/mutex.h"
#include "fleet/store/store.h"

namespace celslm::testing_support {

// What all nodes of a test share. Thread-safe.
class MemoryServer {
 public:
  explicit MemoryServer(const Clock& clock) : clock_(clock) {}

  void set_down(bool down) {
    const MutexLock lock(mutex_);
    down_ = down;
  }
  // As a server without persistence that starts again.
  void lose_everything() {
    const MutexLock lock(mutex_);
    entries_.clear();
  }

 private:
  friend class MemoryStore;
  using Set = std::set<std::string>;
  // Of one group.
  struct Work {
    std::string value;
    std::string consumer;  // empty: nobody has taken it
    TimePoint heard{};
    std::int64_t deliveries = 0;
  };
  using Stream = std::map<std::uint64_t, Work>;
  struct Entry {
    std::variant<std::string, Set, Stream> value;
    TimePoint until = TimePoint::max();
  };
  Entry* find(const std::string& key) CELSLM_REQUIRES(mutex_) {
    const auto it = entries_.find(key);
    if (it == entries_.end()) return nullptr;
    if (clock_.now() < it->second.until) return &it->second;
    entries_.erase(it);
    return nullptr;
  }

  const Clock& clock_;
  Mutex mutex_;
  bool down_ CELSLM_GUARDED_BY(mutex_) = false;
  std::uint64_t appended_ CELSLM_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Entry> entries_ CELSLM_GUARDED_BY(mutex_);
};

class MemoryStore final : public Store {
 public:
  explicit MemoryStore(std::shared_ptr<MemoryServer> server) : server_(std::move(server)) {}

  Result<std::vector<std::optional<std::string>>> get_all(std::span<const std::string> keys,
                                                          std::size_t max_bytes) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    std::vector<std::optional<std::string>> out;
    for (const std::string& key : keys) {
      const auto* entry = server_->find(key);
      const auto* text = entry ? std::get_if<std::string>(&entry->value) : nullptr;
      out.push_back(text && !text->empty() ? std::optional(text->substr(0, max_bytes + 1)) : std::nullopt);
    }
    return out;
  }
  Status set(const std::string& key, const std::string& value, Duration ttl) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    server_->entries_[key] = {value, server_->clock_.now() + ttl};
    return {};
  }
  Result<bool> extend(const std::string& key, Duration ttl) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    auto* entry = server_->find(key);
    if (entry) entry->until = server_->clock_.now() + ttl;
    return entry != nullptr;
  }
  Status remove(const std::string& key) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    server_->entries_.erase(key);
    return {};
  }
  Result<bool> hold(const std::string& key, const std::string& owner, Duration ttl) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    const auto* entry = server_->find(key);
    if (entry && std::get<std::string>(entry->value) != owner) return false;
    server_->entries_[key] = {owner, server_->clock_.now() + ttl};
    return true;
  }
  Status release(const std::string& key, const std::string& owner) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    const auto* entry = server_->find(key);
    if (entry && std::get<std::string>(entry->value) == owner) server_->entries_.erase(key);
    return {};
  }
  Status add(const std::string& set, const std::string& member, Duration ttl) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    auto* entry = server_->find(set);
    if (!entry) entry = &(server_->entries_[set] = {MemoryServer::Set()});
    std::get<MemoryServer::Set>(entry->value).insert(member);
    entry->until = server_->clock_.now() + ttl;
    return {};
  }
  Status discard(const std::string& set, std::span<const std::string> members) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    auto* entry = server_->find(set);
    for (const std::string& member : members) {
      if (entry) std::get<MemoryServer::Set>(entry->value).erase(member);
    }
    return {};
  }
  Result<std::vector<std::string>> sample(const std::string& set, std::size_t most) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    const auto* entry = server_->find(set);
    if (!entry) return std::vector<std::string>();
    const auto& members = std::get<MemoryServer::Set>(entry->value);
    std::vector<std::string> out(members.begin(), members.end());
    out.resize(std::min(out.size(), most));
    return out;
  }

  Status append(const std::string& stream, const std::string& value, std::size_t most, Duration ttl) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    auto* entry = server_->find(stream);
    if (!entry) entry = &(server_->entries_[stream] = {MemoryServer::Stream()});
    auto& work = std::get<MemoryServer::Stream>(entry->value);
    work[++server_->appended_].value = value;
    while (work.size() > most) work.erase(work.begin());
    entry->until = server_->clock_.now() + ttl;
    return {};
  }
  Result<std::optional<Entry>> take(const std::string& stream, const std::string&, const std::string& consumer) override {
    return first(stream, consumer, [](const MemoryServer::Work& work) { return work.consumer.empty(); });
  }
  Result<std::optional<Entry>> take_over(const std::string& stream, const std::string&, const std::string& consumer,
                                         Duration silence) override {
    return first(stream, consumer, [&](const MemoryServer::Work& work) {
      return !work.consumer.empty() && server_->clock_.now() - work.heard >= silence;
    });
  }
  Status keep(const std::string& stream, const std::string&, const std::string& consumer, const std::string& id) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    auto* entry = server_->find(stream);
    if (!entry) return {};
    auto& all = std::get<MemoryServer::Stream>(entry->value);
    const auto it = all.find(std::stoull(id));
    if (it == all.end()) return {};
    it->second.consumer = consumer;
    it->second.heard = server_->clock_.now();
    return {};
  }
  Status done(const std::string& stream, const std::string&, const std::string& id) override {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    if (auto* entry = server_->find(stream)) std::get<MemoryServer::Stream>(entry->value).erase(std::stoull(id));
    return {};
  }

 private:
  template <typename Wanted>
  Result<std::optional<Entry>> first(const std::string& stream, const std::string& consumer, const Wanted& wanted) {
    const MutexLock lock(server_->mutex_);
    CELSLM_CHECK_OK(reach());
    auto* entry = server_->find(stream);
    if (!entry) return std::nullopt;
    for (auto& [id, work] : std::get<MemoryServer::Stream>(entry->value)) {
      if (!wanted(work)) continue;
      work.consumer = consumer;
      work.heard = server_->clock_.now();
      return Entry{.id = std::to_string(id), .value = work.value, .deliveries = ++work.deliveries};
    }
    return std::nullopt;
  }
  Status reach() const CELSLM_REQUIRES(server_->mutex_) {
    if (server_->down_) return fail(ErrorKind::kUnavailable, "the store is down");
    return {};
  }
  const std::shared_ptr<MemoryServer> server_;
};

}  // namespace celslm::testing_support
