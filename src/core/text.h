// Text helpers.
#pragma once

#include <string_view>

namespace celslm {

// `text` without those of `characters` that it begins and ends with; a view into it.
inline std::string_view trimmed(std::string_view text, std::string_view characters) {
  const std::size_t first = text.find_first_not_of(characters);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(characters) - first + 1);
}

}  // namespace celslm
