#include "cli/terminal/progress.h"

#include <fmt/format.h>
#include <unistd.h>

namespace celslm {

Progress::Progress(std::ostream& err, std::string what)
    : err_(err), what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::show(double part, const std::string& detail) {
  const int percent = static_cast<int>(part * 100.0);
  const int step = terminal_ ? 1 : 25;
  if (percent / step == shown_ / step && shown_ >= 0) return;
  shown_ = percent;
  err_ << (terminal_ ? "\r\033[K" : "") << fmt::format("{}: {} %{}{}", what_, percent, detail.empty() ? "" : ", ", detail)
       << (terminal_ ? "" : "\n") << std::flush;
}

void Progress::end() {
  if (terminal_ && shown_ >= 0) err_ << "\r\033[K" << std::flush;
}

}  // namespace celslm
