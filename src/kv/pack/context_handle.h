// Identifies a registered text.
#pragma once

#include <string_view>

#include "core/hash.h"

namespace celslm {

// The hash of a registered text, independent of any model. A model's tokens of the text are identified by context_id().
using ContextHandle = Hash256;

inline ContextHandle context_handle(std::string_view text) {
  return hash_of(text);
}

}  // namespace celslm
