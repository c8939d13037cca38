// How many files and sockets this process may have open.
#pragma once

#include <cstddef>

namespace celslm {

// Raises the soft limit to the hard one: shells start programs with 1,024, which a server's connections use up. Returns the
// limit that holds now. For a program's start; there is nothing to undo.
std::size_t raise_open_file_limit();

std::size_t open_file_limit();  // the soft one

}  // namespace celslm
