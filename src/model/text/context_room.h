// Contexts that a chat can be about.
#pragma once

#include <string_view>
#include <vector>

#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

// Text::context(), for a model with a context of n_ctx tokens. kInvalid also where not even the shortest chat with this text
// and one token of answer fits: such a context would only be refused to everybody later.
Result<std::vector<Token>> context_with_room(const Text& model, std::string_view text, int n_ctx);

}  // namespace celslm
