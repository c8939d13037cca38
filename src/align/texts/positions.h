// Aligns two tokenizations of the same text, position by position.
#pragma once

#include <span>
#include <vector>

#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

// For each target token, the index of the source token that ends at the same byte or, if there is none, of the first that
// ends after it: the first source state that has seen all of the target token's text. Equal tokenizations are paired one to
// one. The result is shorter than `target` if the source tokens end before it.
//
// kMismatch if the two token sequences do not decode to the same text, for example because the chat templates use different
// words.
Result<std::vector<int>> pair_positions(const Text& source_text, std::span<const Token> source, const Text& target_text,
                                        std::span<const Token> target);

}  // namespace celslm
