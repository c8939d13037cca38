// Files with a value on each line.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/result.h"

namespace celslm {

// Calls take(line), which returns a Status, for each line that is not blank. An error names its line.
template <typename Take>
Status for_each_line(std::string_view text, Take take) {
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Status taken = take(line);
    if (!taken) return wrap(std::move(taken).error(), fmt::format("line {}", number));
  }
  return {};
}

}  // namespace celslm
