// Conversations about a context, whose queries short KV is fitted to.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

struct StudyTurn {
  std::string prompt;  // the user's
  std::string answer;
};

// What follows the context in a chat that begins with this system message: for each turn its prompt and its answer.
// Errors of Text::context and Text::chat.
Result<std::vector<std::vector<Token>>> conversations_of(const Text& text, const std::string& system,
                                                         std::span<const StudyTurn> turns);

// A second reading of the system message, as the user's turns without answers: in pieces of at most kReadAgainBytes, cut
// between lines or words where there are any.
inline constexpr std::size_t kReadAgainBytes = 8192;
std::vector<StudyTurn> read_again(const std::string& system);

}  // namespace celslm
