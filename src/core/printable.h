// Text that another node chose, made safe to show.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace celslm {

// How much of a message from another node is kept: one line of a log or of a terminal, not 900 KB in each answer.
inline constexpr std::size_t kPrintableBytes = 200;

// `text` on one line and without what steers a terminal or forges a line of a log: control characters (ESC, line breaks),
// line separators, marks that turn or hide text (bidirectional, of no width, tags) are written as escapes ("\n", "\x1b",
// "\u{202e}"), and what is not UTF-8 as U+FFFD. Of what is longer than max_bytes in that form the beginning is kept, and "…"
// follows it, within max_bytes. What is printable already stays as it is.
std::string printable(std::string_view text, std::size_t max_bytes = kPrintableBytes);

}  // namespace celslm
