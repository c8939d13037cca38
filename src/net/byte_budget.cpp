#include "net/byte_budget.h"

#include <algorithm>
#include <utility>

namespace celslm {
namespace {

constexpr std::uint64_t kKeptShare = 32;  // one part in so many is for small calls

}  // namespace

ByteBudget::ByteBudget(std::uint64_t bytes_per_hour, const Clock& clock, Log log)
    : capacity_(bytes_per_hour), clock_(clock), log_(std::move(log)) {}

std::int64_t ByteBudget::minute_now() const {
  return std::chrono::floor<std::chrono::minutes>(clock_.now().time_since_epoch()).count();
}

ByteBudget::Minute& ByteBudget::at(std::int64_t minute) {
  Minute& out = minutes_[static_cast<std::size_t>(minute) % minutes_.size()];
  if (out.number != minute) out = {.number = minute};
  return out;
}

std::uint64_t ByteBudget::left() const {
  const std::int64_t oldest = minute_now() - static_cast<std::int64_t>(minutes_.size()) + 1;
  std::uint64_t used = 0;
  for (const Minute& minute : minutes_) {
    if (minute.number >= oldest) used += minute.bytes;
  }
  return capacity_ - std::min(capacity_, used);
}

bool ByteBudget::take(std::int64_t minute, std::uint64_t bytes, bool small) {
  const std::uint64_t kept = small ? 0 : capacity_ / kKeptShare;
  const std::uint64_t free = left();
  if (free >= kept && bytes <= free - kept) {
    at(minute).bytes += bytes;
    return true;
  }
  if (!reported_ || minute - *reported_ >= 60) {
    reported_ = minute;
    log_->warn(
        "the network's bytes for this hour are used up ({} of {} left, {} needed; --max-bytes-per-hour): what is missing "
        "is computed here",
        free, capacity_, bytes);
  }
  return false;
}

std::optional<ByteBudget::Lease> ByteBudget::reserve(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  const std::int64_t minute = minute_now();
  if (!take(minute, bytes, bytes <= kSmallCall)) return std::nullopt;
  return Lease(*this, minute, bytes);
}

std::uint64_t ByteBudget::available() const {
  const MutexLock lock(mutex_);
  const std::uint64_t free = left();
  return free - std::min(free, capacity_ / kKeptShare);
}

// What was used counts from now on: when exactly within the call it moved is not known.
void ByteBudget::settle(std::int64_t minute, std::uint64_t taken, std::uint64_t used) {
  const MutexLock lock(mutex_);
  for (Minute& then : minutes_) {
    if (then.number == minute) then.bytes -= std::min(then.bytes, taken);
  }
  at(minute_now()).bytes += used;
}

ByteBudget::Lease::Lease(Lease&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)), minute_(other.minute_), bytes_(other.bytes_) {}

ByteBudget::Lease::~Lease() {
  settle(0);
}

bool ByteBudget::Lease::extend(std::uint64_t bytes) {
  if (budget_ == nullptr) return false;
  const MutexLock lock(budget_->mutex_);
  const std::int64_t now = budget_->minute_now();
  if (!budget_->take(now, bytes, bytes_ + bytes <= kSmallCall)) return false;
  // All of a lease lies in one minute, so that settling finds it.
  if (now != minute_) {
    ByteBudget::Minute& then = budget_->at(minute_);
    then.bytes -= std::min(then.bytes, bytes_);
    budget_->at(now).bytes += bytes_;
    minute_ = now;
  }
  bytes_ += bytes;
  return true;
}

void ByteBudget::Lease::settle(std::uint64_t used) {
  if (ByteBudget* budget = std::exchange(budget_, nullptr)) budget->settle(minute_, bytes_, used);
}

}  // namespace celslm
