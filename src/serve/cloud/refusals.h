// Refusals that several of a cloud's routes answer with.
#pragma once

#include <string>

#include "core/result.h"
#include "net/http_types.h"

namespace celslm {

// 404; handle: as the request has it.
HttpResponse unknown_context(const std::string& handle);
// Of a context, and of a pack whose names are known.
HttpResponse context_refused(const Error& error);

}  // namespace celslm
