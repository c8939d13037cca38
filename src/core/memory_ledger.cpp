#include "core/memory_ledger.h"

#include <algorithm>

namespace celslm {

struct MemoryLease::Books {
  struct Sums {
    std::uint64_t bytes = 0;
    std::uint64_t most_bytes = 0;
  };
  struct Reclaimer {
    int rank = 0;
    std::uint64_t number = 0;
    MemoryLedger::Reclaim free;
  };

  explicit Books(std::uint64_t limit) : limit_bytes(limit) {}

  const std::uint64_t limit_bytes;
  mutable Mutex mutex;
  std::map<std::string, Sums, std::less<>> accounts CELSLM_GUARDED_BY(mutex);
  std::uint64_t used CELSLM_GUARDED_BY(mutex) = 0;
  std::uint64_t refused CELSLM_GUARDED_BY(mutex) = 0;
  Mutex reclaim_mutex;  // held while reclaimers run: one thread makes room at a time
  std::vector<Reclaimer> reclaimers CELSLM_GUARDED_BY(reclaim_mutex);  // by rank
  std::uint64_t next_number CELSLM_GUARDED_BY(reclaim_mutex) = 0;

  std::uint64_t available() const CELSLM_REQUIRES(mutex) { return limit_bytes - std::min(limit_bytes, used); }

  // False, with nothing changed, where `may_refuse` and the limit would be passed.
  bool change(std::string_view account, std::uint64_t from, std::uint64_t to, bool may_refuse) CELSLM_EXCLUDES(mutex) {
    const MutexLock lock(mutex);
    if (may_refuse && to > from && to - from > available()) {
      ++refused;
      return false;
    }
    auto found = accounts.find(account);
    if (found == accounts.end()) found = accounts.emplace(account, Sums{}).first;
    Sums& sums = found->second;
    sums.bytes = sums.bytes - from + to;
    sums.most_bytes = std::max(sums.most_bytes, sums.bytes);
    used = used - from + to;
    return true;
  }

  std::uint64_t available_now() const CELSLM_EXCLUDES(mutex) {
    const MutexLock lock(mutex);
    return available();
  }

  std::unexpected<Error> refusal(std::string_view account, std::uint64_t bytes) const CELSLM_EXCLUDES(mutex) {
    const MutexLock lock(mutex);
    return fail(ErrorKind::kOverloaded, "no memory for {} ({:.1f} MB): {:.1f} of {:.1f} MB are in use; try again later",
                account, static_cast<double>(bytes) / 1e6, static_cast<double>(used) / 1e6,
                static_cast<double>(limit_bytes) / 1e6);
  }
};

MemoryLease::MemoryLease(MemoryLease&& other) noexcept
    : books_(std::move(other.books_)), account_(std::move(other.account_)), bytes_(std::exchange(other.bytes_, 0)) {}

MemoryLease& MemoryLease::operator=(MemoryLease&& other) noexcept {
  if (this == &other) return *this;
  release();
  books_ = std::move(other.books_);
  account_ = std::move(other.account_);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

Status MemoryLease::resize(std::uint64_t bytes) {
  if (!books_) return fail(ErrorKind::kInternal, "a lease of no ledger cannot be resized");
  if (!books_->change(account_, bytes_, bytes, true)) return books_->refusal(account_, bytes - bytes_);
  bytes_ = bytes;
  return {};
}

void MemoryLease::resize_over_limit(std::uint64_t bytes) {
  if (!books_) return;
  books_->change(account_, bytes_, bytes, false);
  bytes_ = bytes;
}

void MemoryLease::release() {
  if (books_ && bytes_ > 0) resize_over_limit(0);
}

MemoryLedger::MemoryLedger(std::uint64_t limit_bytes) : books_(std::make_shared<MemoryLease::Books>(limit_bytes)) {}
MemoryLedger::~MemoryLedger() = default;

Result<MemoryLease> MemoryLedger::take(std::string_view account, std::uint64_t bytes) {
  if (!books_->change(account, 0, bytes, true)) return books_->refusal(account, bytes);
  return MemoryLease(books_, std::string(account), bytes);
}

MemoryLease MemoryLedger::note(std::string_view account, std::uint64_t bytes) {
  books_->change(account, 0, bytes, false);
  return {books_, std::string(account), bytes};
}

bool MemoryLedger::make_room(std::uint64_t bytes) {
  if (books_->available_now() >= bytes) return true;
  const MutexLock lock(books_->reclaim_mutex);
  for (const auto& reclaimer : books_->reclaimers) {
    const std::uint64_t available = books_->available_now();
    if (available >= bytes) return true;
    reclaimer.free(bytes - available);
  }
  return books_->available_now() >= bytes;
}

std::unique_ptr<MemoryLedger::Registration> MemoryLedger::add_reclaimer(int rank, Reclaim free) {
  const MutexLock lock(books_->reclaim_mutex);
  const std::uint64_t number = books_->next_number++;
  auto& list = books_->reclaimers;
  const auto place = std::ranges::upper_bound(list, rank, {}, &MemoryLease::Books::Reclaimer::rank);
  list.insert(place, {.rank = rank, .number = number, .free = std::move(free)});
  return std::unique_ptr<Registration>(new Registration(books_, number));
}

MemoryLedger::Registration::~Registration() {
  const MutexLock lock(books_->reclaim_mutex);
  std::erase_if(books_->reclaimers, [&](const auto& reclaimer) { return reclaimer.number == number_; });
}

std::vector<MemoryLedger::Account> MemoryLedger::accounts() const {
  const MutexLock lock(books_->mutex);
  std::vector<Account> out;
  out.reserve(books_->accounts.size());
  for (const auto& [name, sums] : books_->accounts)
    out.push_back({.name = name, .bytes = sums.bytes, .most_bytes = sums.most_bytes});
  return out;
}

std::uint64_t MemoryLedger::limit_bytes() const {
  return books_->limit_bytes;
}

std::uint64_t MemoryLedger::used_bytes() const {
  const MutexLock lock(books_->mutex);
  return books_->used;
}

std::uint64_t MemoryLedger::available_bytes() const {
  return books_->available_now();
}

std::uint64_t MemoryLedger::refused() const {
  const MutexLock lock(books_->mutex);
  return books_->refused;
}

}  // namespace celslm
