#include "net/access/refusal_log.h"

namespace celslm {

void RefusalLog::refused(std::string_view who, std::string_view kind, Time now) {
  std::uint64_t unreported = 0;
  {
    const MutexLock lock(mutex_);
    const auto [it, is_new] = kinds_.try_emplace(std::string(kind));
    Kind& known = it->second;
    if (!is_new && now - known.last_line < kInterval) {
      ++known.unreported;
      return;
    }
    known.last_line = now;
    unreported = std::exchange(known.unreported, 0);
  }
  if (unreported == 0) {
    log_->warn("refused {}: {}", who, kind);
  } else {
    log_->warn("refused {}: {}; {} more were refused for this since the last such line", who, kind, unreported);
  }
}

}  // namespace celslm
