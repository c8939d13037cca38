#include "serve/context/context_table.h"

namespace celslm {

Result<std::shared_ptr<ResidentContext>> ContextTable::acquire(
    const ContextHandle& handle, const std::function<Result<std::shared_ptr<ResidentContext>>()>& create, bool* created) {
  const MutexLock lock(mutex_);
  std::shared_ptr<ResidentContext> context;
  const auto it = slots_.find(handle);
  *created = it == slots_.end();
  if (*created) {
    CELSLM_TRY(context, create());
  } else {
    context = it->second.context;
  }
  slots_[handle] = {.context = context, .used = ++counter_};
  evict();  // also when it was found: what was in use when the budget was exceeded may not be any more
  return context;
}

std::shared_ptr<ResidentContext> ContextTable::find(const ContextHandle& handle) const {
  const MutexLock lock(mutex_);
  const auto it = slots_.find(handle);
  return it == slots_.end() ? nullptr : it->second.context;
}

bool ContextTable::replace(const std::shared_ptr<ResidentContext>& known, const std::shared_ptr<ResidentContext>& better) {
  const MutexLock lock(mutex_);
  const auto it = slots_.find(known->handle);
  if (it == slots_.end() || it->second.context != known) return false;
  it->second.context = better;
  evict();
  return true;
}

void ContextTable::drop_unless(const std::function<bool(const ContextHandle&)>& known) {
  const MutexLock lock(mutex_);
  std::erase_if(slots_, [&](const auto& slot) { return !known(slot.first); });
}

std::vector<std::shared_ptr<ResidentContext>> ContextTable::all() const {
  const MutexLock lock(mutex_);
  std::vector<std::shared_ptr<ResidentContext>> out;
  out.reserve(slots_.size());
  for (const auto& [handle, slot] : slots_) out.push_back(slot.context);
  return out;
}

std::uint64_t ContextTable::total_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [handle, slot] : slots_) sum += slot.context->segment->size_bytes();
  return sum;
}

void ContextTable::evict() {
  while ((total_bytes() > budget_bytes_ || slots_.size() > most_) && evict_one() > 0) {
  }
}

std::uint64_t ContextTable::evict_one() {
  auto oldest = slots_.end();
  for (auto it = slots_.begin(); it != slots_.end(); ++it) {
    const bool idle = it->second.context.use_count() == 1;
    if (idle && (oldest == slots_.end() || it->second.used < oldest->second.used)) oldest = it;
  }
  if (oldest == slots_.end()) return 0;
  const std::uint64_t bytes = oldest->second.context->segment->size_bytes();
  slots_.erase(oldest);
  return bytes;
}

void ContextTable::free(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  std::uint64_t freed = 0;
  while (freed < bytes) {
    const std::uint64_t one = evict_one();
    if (one == 0) return;
    freed += one;
  }
}

std::uint64_t ContextTable::bytes() const {
  const MutexLock lock(mutex_);
  return total_bytes();
}

std::size_t ContextTable::size() const {
  const MutexLock lock(mutex_);
  return slots_.size();
}

}  // namespace celslm
