// The form in which texts are registered.
#pragma once

#include <string>
#include <string_view>

namespace celslm {

// The text without a byte order mark and with "\n" for each "\r\n": what editors add and programs drop is no difference
// between two texts.
inline std::string plain_context_text(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 2) != "\r\n") out.push_back(text[i]);
  }
  return out;
}

}  // namespace celslm
