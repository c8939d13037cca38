// How many bytes an edge may still move over the network this hour, shared by everything that asks another node for
// something.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"

namespace celslm {

// A bucket of tokens, one for each byte, of which each returns an hour after it was taken: no 60 minutes have more than
// `bytes_per_hour`. (A bucket that is refilled at a constant rate would allow twice that in the hour after a pause.) It is
// counted by the minute, so a token may stay away for a minute longer.
//
// The last 1/32 is kept for small calls (lists, keys), without which an edge whose contexts took everything would not learn
// for an hour what changed. Thread-safe; the clock must outlive it, and it its leases.
class ByteBudget {
 public:
  ByteBudget(std::uint64_t bytes_per_hour, const Clock& clock, Log log);

  static constexpr std::uint64_t kSmallCall = 16U << 10;  // what is reserved for one call that may use the last 1/32

  // Bytes taken for one call. Gives all of them back unless settle() is called.
  class Lease {
   public:
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&&) = delete;
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease();
    // Takes more for the same call; false, and nothing is taken, if there is not as much.
    bool extend(std::uint64_t bytes);
    std::uint64_t bytes() const { return bytes_; }
    // The call is over and moved this much: less than was taken is given back, more is taken now, if need be from later
    // minutes.
    void settle(std::uint64_t used);

   private:
    friend class ByteBudget;
    Lease(ByteBudget& budget, std::int64_t minute, std::uint64_t bytes) : budget_(&budget), minute_(minute), bytes_(bytes) {}
    ByteBudget* budget_;  // null: settled
    std::int64_t minute_;
    std::uint64_t bytes_;
  };

  // nullopt if there is not as much left. The first time in an hour the log reports it.
  std::optional<Lease> reserve(std::uint64_t bytes) CELSLM_EXCLUDES(mutex_);
  // What may be reserved now for calls of more than kSmallCall.
  std::uint64_t available() const CELSLM_EXCLUDES(mutex_);
  std::uint64_t bytes_per_hour() const { return capacity_; }

 private:
  struct Minute {
    std::int64_t number = -1;
    std::uint64_t bytes = 0;
  };

  std::int64_t minute_now() const;
  bool take(std::int64_t minute, std::uint64_t bytes, bool small) CELSLM_REQUIRES(mutex_);
  void settle(std::int64_t minute, std::uint64_t taken, std::uint64_t used) CELSLM_EXCLUDES(mutex_);
  std::uint64_t left() const CELSLM_REQUIRES(mutex_);
  Minute& at(std::int64_t minute) CELSLM_REQUIRES(mutex_);

  const std::uint64_t capacity_;
  const Clock& clock_;
  const Log log_;
  mutable Mutex mutex_;
  std::array<Minute, 61> minutes_ CELSLM_GUARDED_BY(mutex_);  // by number modulo their count
  std::optional<std::int64_t> reported_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
