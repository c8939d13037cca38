// What happens when a file that is mapped, as models are, becomes shorter while the program runs.
#pragma once

namespace celslm {

inline constexpr int kExitFileLost = 3;

// From now on a read of mapped bytes that are gone (somebody shortened the file, or its disk fails) ends the process with
// kExitFileLost and a message on standard error that names the file, where it would otherwise die of SIGBUS. Nothing else
// can be done there: any thread may be in the middle of a product with these weights. For main, once.
void end_clearly_where_a_mapped_file_is_lost();

}  // namespace celslm
