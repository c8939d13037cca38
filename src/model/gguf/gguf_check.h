// A bounded walk over a GGUF's header, before libraries that trust it see it.
//
// ggml and libllama treat a malformed header as a bug: some counts make them allocate without bound or compare every name
// with every other, some types make a getter end the process. This walk refuses those files first, with a message that names
// the fault.
#pragma once

#include "core/bytes.h"
#include "core/result.h"

namespace celslm {

// `file`: the complete file. kInvalid unless the header is complete and within limits, and every tensor's data lies inside.
Status check_gguf(ByteView file);

}  // namespace celslm
