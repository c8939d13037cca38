// Reading a pack's header from a file.
#pragma once

#include "core/file.h"
#include "core/result.h"

namespace celslm {

// The bytes of the complete header, to be parsed. kIo; kInvalid for what does not begin as a pack, or ends within the
// header. Errors name the file.
Result<Bytes> read_pack_header(const InputFile& file);

}  // namespace celslm
