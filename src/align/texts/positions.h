// Which token of one model's reading of a text stands where a token of another's does.
#pragma once

#include <span>
#include <vector>

#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

// For each token of the target the index of the source's token that ends where it ends or, if none does, at first after it:
// the first state of the source that has read all that the target's token stands for. The same tokens are paired one to
// one. `text` of a model may be null where both have the same tokenizer and therefore the same tokens.
//
// kMismatch where the two readings do not spell the same text, as with chat templates that word things differently.
Result<std::vector<int>> pair_positions(const Text& source_text, std::span<const Token> source, const Text& target_text,
                                        std::span<const Token> target);

}  // namespace celslm
