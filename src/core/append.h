// Files that only grow: a line for each step of long work.
#pragma once

#include <filesystem>

#include "core/bytes.h"
#include "core/result.h"

namespace celslm {

// Adds to the end of a file, which is created if there is none, and waits until the disk has it. After a crash a part of
// `data` may be there. kIo; kNotFound where the folder is missing.
Status append_durably(const std::filesystem::path& path, ByteView data);

}  // namespace celslm
