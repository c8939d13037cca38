// Refusals in the log: one line of a kind in a while, however many come, so that whoever is refused cannot fill a disk with
// lines.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/log.h"
#include "core/mutex.h"

namespace celslm {

// Thread-safe.
class RefusalLog {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kInterval{60};

  explicit RefusalLog(Log log) : log_(std::move(log)) {}

  // kind: a fixed text, for there is a count for each ("a wrong bearer token"). who: for people, and not quoted from a peer.
  // A line follows the first, and then at most one every kInterval, with the number of those that had none.
  void refused(std::string_view who, std::string_view kind, Time now) CELSLM_EXCLUDES(mutex_);

 private:
  struct Kind {
    Time last_line;
    std::uint64_t unreported = 0;
  };
  const Log log_;
  Mutex mutex_;
  std::map<std::string, Kind, std::less<>> kinds_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
