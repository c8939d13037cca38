// UTF-8 as it comes out of a tokenizer: cut anywhere, not always well-formed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace celslm {

bool is_utf8(std::string_view text);

// Bytes at the end (0 to 3) that begin a character whose rest may still come.
std::size_t incomplete_utf8_tail(std::string_view text);

// The text with U+FFFD for each maximal ill-formed part (Unicode 3.9, "substitution of maximal subparts"), as browsers do.
std::string repaired_utf8(std::string_view text);

// Characters (code points) that begin in these bytes, so that one cut into several pieces counts once.
std::size_t utf8_length(std::string_view text);

}  // namespace celslm
