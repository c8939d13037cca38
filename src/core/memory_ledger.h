// Who holds how much of this process's memory, and how much there may be.
//
//   auto lease = ledger->take("contexts", bytes);   // refused (kOverloaded) where it would pass the limit
//   if (!lease) return std::unexpected(lease.error());
//   ...                                              // the memory is allocated, and lives as long as the lease
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/mutex.h"
#include "core/result.h"

namespace celslm {

class MemoryLedger;

// Bytes of one account. Returned at destruction. May be moved; used by one thread at a time. Keeps the ledger's books alive.
class MemoryLease {
 public:
  MemoryLease() = default;  // of nothing, from no ledger: grow() is refused
  MemoryLease(MemoryLease&& other) noexcept;
  MemoryLease& operator=(MemoryLease&& other) noexcept;
  ~MemoryLease() { release(); }

  std::uint64_t bytes() const { return bytes_; }
  // So many bytes from now on. kOverloaded, with nothing changed, where there is no room for more.
  Status resize(std::uint64_t bytes);
  // The same for what has been allocated already and cannot be refused any more: the limit may be passed.
  void resize_over_limit(std::uint64_t bytes);
  void release();

 private:
  friend class MemoryLedger;
  struct Books;
  MemoryLease(std::shared_ptr<Books> books, std::string account, std::uint64_t bytes)
      : books_(std::move(books)), account_(std::move(account)), bytes_(bytes) {}

  std::shared_ptr<Books> books_;
  std::string account_;
  std::uint64_t bytes_ = 0;
};

// Every allocation of more than 1 MB that lives longer than a step of work has a lease. Thread-safe; leases may outlive it.
class MemoryLedger {
 public:
  static constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

  explicit MemoryLedger(std::uint64_t limit_bytes = kNoLimit);
  ~MemoryLedger();
  MemoryLedger(const MemoryLedger&) = delete;
  MemoryLedger& operator=(const MemoryLedger&) = delete;

  // kOverloaded where the limit would be passed; asks nobody to give anything up: see make_room().
  Result<MemoryLease> take(std::string_view account, std::uint64_t bytes);
  // For what is there already, such as the program itself: never refused.
  MemoryLease note(std::string_view account, std::uint64_t bytes);

  // Frees what can be done without until `bytes` are available, or nothing is left to free. Returns whether they are. To be
  // called without locks that a reclaimer takes.
  bool make_room(std::uint64_t bytes);
  // `free` gives up about so many bytes, if it can; it runs on the thread that needs them. Reclaimers are asked in the order
  // of `rank`, until the returned registration is destroyed; its destruction waits for a call under way.
  using Reclaim = std::function<void(std::uint64_t bytes)>;
  class Registration;
  [[nodiscard]] std::unique_ptr<Registration> add_reclaimer(int rank, Reclaim free);

  struct Account {
    std::string name;
    std::uint64_t bytes = 0;
    std::uint64_t most_bytes = 0;  // at any time so far
  };
  std::vector<Account> accounts() const;  // by name, with those that hold nothing now
  std::uint64_t limit_bytes() const;
  std::uint64_t used_bytes() const;
  std::uint64_t available_bytes() const;
  std::uint64_t refused() const;  // how often bytes were refused so far

 private:
  const std::shared_ptr<MemoryLease::Books> books_;
};

// A reclaimer's place in its ledger.
class MemoryLedger::Registration {
 public:
  ~Registration();
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

 private:
  friend class MemoryLedger;
  Registration(std::shared_ptr<MemoryLease::Books> books, std::uint64_t number)
      : books_(std::move(books)), number_(number) {}
  const std::shared_ptr<MemoryLease::Books> books_;
  const std::uint64_t number_;
};

}  // namespace celslm
