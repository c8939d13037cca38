// The contexts that an edge has in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/mutex.h"
#include "serve/context/resident_context.h"

namespace celslm {

// The contexts of one edge, bounded in bytes and number: the least recently used that nobody holds are evicted. Thread-safe.
class ContextTable {
 public:
  // most: contexts, however small they are.
  explicit ContextTable(std::uint64_t budget_bytes, std::size_t most = SIZE_MAX)
      : budget_bytes_(budget_bytes), most_(most) {}

  // The context under this handle, made by `create` if there is none; `create` runs with the table locked and must not
  // block. `created` tells which. Contexts in use are never evicted, so the budget can be exceeded by what is in use.
  Result<std::shared_ptr<ResidentContext>> acquire(const ContextHandle& handle,
                                                   const std::function<Result<std::shared_ptr<ResidentContext>>()>& create,
                                                   bool* created) CELSLM_EXCLUDES(mutex_);
  // Puts `better` in the place of `known`; false if that is not in the table any more. Whoever holds `known` keeps it.
  bool replace(const std::shared_ptr<ResidentContext>& known, const std::shared_ptr<ResidentContext>& better)
      CELSLM_EXCLUDES(mutex_);
  // Drops contexts for which `known` is false; it is called with the table locked. Whoever holds them keeps them.
  void drop_unless(const std::function<bool(const ContextHandle&)>& known) CELSLM_EXCLUDES(mutex_);
  // Evicts contexts that nobody holds, the least recently used first, until so many bytes are free again or none is left.
  void free(std::uint64_t bytes) CELSLM_EXCLUDES(mutex_);
  std::vector<std::shared_ptr<ResidentContext>> all() const CELSLM_EXCLUDES(mutex_);
  // Null if there is none; does not count as use.
  std::shared_ptr<ResidentContext> find(const ContextHandle& handle) const CELSLM_EXCLUDES(mutex_);
  std::uint64_t bytes() const CELSLM_EXCLUDES(mutex_);
  std::uint64_t budget_bytes() const { return budget_bytes_; }
  std::size_t size() const CELSLM_EXCLUDES(mutex_);

 private:
  struct Slot {
    std::shared_ptr<ResidentContext> context;
    std::uint64_t used = 0;  // larger is later
  };
  std::uint64_t total_bytes() const CELSLM_REQUIRES(mutex_);
  void evict() CELSLM_REQUIRES(mutex_);
  // The bytes of the context that was evicted; 0 if all are held.
  std::uint64_t evict_one() CELSLM_REQUIRES(mutex_);

  const std::uint64_t budget_bytes_;
  const std::size_t most_;
  mutable Mutex mutex_;
  std::unordered_map<ContextHandle, Slot> slots_ CELSLM_GUARDED_BY(mutex_);
  std::uint64_t counter_ CELSLM_GUARDED_BY(mutex_) = 0;
};

}  // namespace celslm
