// Whether an edge can read the packs that its cloud writes: while a fleet is upgraded the two differ for a while.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "core/log.h"
#include "core/result.h"

namespace celslm {

// Thread-safe.
class PackVersionCheck {
 public:
  explicit PackVersionCheck(Log log) : log_(std::move(log)) {}

  // The version that the cloud's list names. A change between readable and not is logged, once.
  void learned(std::uint16_t version, const std::string& url);
  // kInvalid, with what to do, where the last version learned is newer than this program. Asking such a cloud for packs
  // would cost a round trip each, and computing at the cloud, for what is refused.
  Status check(const std::string& url) const;

 private:
  const Log log_;
  std::atomic<std::uint16_t> version_ = 0;  // 0: none was learned
};

}  // namespace celslm
