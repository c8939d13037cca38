// What large request bodies hold, those being answered included.
#pragma once

#include <cstddef>
#include <memory>

#include "core/memory_ledger.h"

namespace celslm {

// Used by one thread.
class BodyMemory {
 public:
  // ledger: also counts the bodies, as "request bodies"; null: only the limit holds.
  BodyMemory(std::size_t limit_bytes, const std::shared_ptr<MemoryLedger>& ledger)
      : limit_bytes_(limit_bytes), lease_(ledger ? ledger->note(kAccount, 0) : MemoryLedger().note(kAccount, 0)) {}

  std::size_t bytes() const { return bytes_; }
  // A body's share `held` becomes so many bytes. False where there is no room for them; they count until the next call
  // nevertheless.
  bool resize(std::size_t& held, std::size_t bytes) {
    bytes_ += bytes - held;
    held = bytes;
    const bool in_ledger = lease_.resize(bytes_).has_value();
    return in_ledger && bytes_ <= limit_bytes_;
  }

 private:
  static constexpr const char* kAccount = "request bodies";

  const std::size_t limit_bytes_;
  std::size_t bytes_ = 0;
  MemoryLease lease_;
};

}  // namespace celslm
