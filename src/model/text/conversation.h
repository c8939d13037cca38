// A conversation as the template writes it, cut at the template's control tokens; for this layer's own files.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

// Text to be tokenized as it stands, or one control token. Two texts are never neighbours, and tokenization never looks
// across a control token: the tokens of some pieces do not depend on what follows them.
struct Piece {
  std::string text;
  std::optional<Token> token;
  bool operator==(const Piece&) const = default;
};

// Errors as Text::chat.
Result<std::vector<Piece>> conversation_pieces(const Text::Impl& impl, std::span<const ChatMessage> messages, bool answer,
                                               const ChatOptions& options = {});

// Begins with BOS where the model wants it.
std::vector<Token> tokens_of(const Text& text, std::span<const Piece> pieces);

}  // namespace celslm
