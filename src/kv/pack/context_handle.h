// The name of a shared text.
#pragma once

#include <string_view>

#include "core/hash.h"

namespace celslm {

// Names a registered text, whatever model reads it; what a model makes of the text is named by its context_id().
using ContextHandle = Hash256;

inline ContextHandle context_handle(std::string_view text) {
  return hash_of(text);
}

}  // namespace celslm
