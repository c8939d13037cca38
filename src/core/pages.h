// Pages of memory: 4 KB on x86; 4, 16 or 64 KB on ARM, as its kernel was built.
#pragma once

#include <cstddef>
#include <span>

namespace celslm {

std::size_t page_bytes();

// Gives the pages that lie in `memory` completely back to the system; those that it shares with something else stay.
// Anonymous memory reads as zeros from then on, a file's mapping as the file.
void release_complete_pages(std::span<std::byte> memory);

}  // namespace celslm
