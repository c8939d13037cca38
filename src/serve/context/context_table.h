// The contexts that an edge has in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "serve/context/resident_context.h"

namespace celslm {

// The contexts of one edge, bounded in bytes: the least recently used that nobody holds go first. Thread-safe.
class ContextTable {
 public:
  explicit ContextTable(std::uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // The context under this handle, made by `create` if there is none; `create` runs with the table locked and must not
  // block. `created` tells which. Contexts in use are never evicted, so the budget can be exceeded by what is in use.
  Result<std::shared_ptr<ResidentContext>> acquire(const ContextHandle& handle,
                                                   const std::function<Result<std::shared_ptr<ResidentContext>>()>& create,
                                                   bool* created);
  // Puts `better` where `known` is; false if it is not there any more. Who holds `known` keeps it.
  bool replace(const std::shared_ptr<ResidentContext>& known, const std::shared_ptr<ResidentContext>& better);
  std::vector<std::shared_ptr<ResidentContext>> all() const;
  // Null if there is none; does not count as use.
  std::shared_ptr<ResidentContext> find(const ContextHandle& handle) const;
  std::uint64_t bytes() const;
  std::uint64_t budget_bytes() const { return budget_bytes_; }
  std::size_t size() const;

 private:
  struct Slot {
    std::shared_ptr<ResidentContext> context;
    std::uint64_t used = 0;  // larger is later
  };
  void evict();  // with mutex_ held

  const std::uint64_t budget_bytes_;
  mutable std::mutex mutex_;
  std::unordered_map<ContextHandle, Slot> slots_;  // protected by mutex_
  std::uint64_t counter_ = 0;                      // protected by mutex_
};

}  // namespace celslm
