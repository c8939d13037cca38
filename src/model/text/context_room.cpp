#include "model/text/context_room.h"

#include <array>
#include <string>

#include "core/text.h"
#include "model/text/token_bound.h"

namespace celslm {
namespace {

constexpr std::size_t kLongBytes = 64U << 10;  // a shorter text takes a few megabytes to tokenize

}  // namespace

Result<std::vector<Token>> context_with_room(const Text& model, std::string_view text, int n_ctx) {
  const auto limit = static_cast<std::size_t>(n_ctx);
  // A chat with it would have all of it but the blanks at the ends.
  if (text.size() >= kLongBytes && at_least_tokens(model, trimmed(text, " \t\n\v\f\r"), limit) > limit) {
    return fail(ErrorKind::kInvalid, "the context has more than {} tokens, too many for the model's context length of {}",
                limit, n_ctx);
  }
  CELSLM_TRY(std::vector<Token> tokens, model.context(text));
  if (tokens.size() < limit / 2) return tokens;  // no template adds that much
  if (tokens.size() + 2 > limit) {
    return fail(ErrorKind::kInvalid, "the context has {} tokens, too many for the model's context length of {}",
                tokens.size(), n_ctx);
  }
  const std::array<ChatMessage, 2> shortest{ChatMessage{.role = "system", .content = std::string(text)},
                                            ChatMessage{.role = "user", .content = "?"}};
  CELSLM_TRY(const std::vector<Token> chat, model.chat(shortest));
  if (chat.size() < limit) return tokens;
  return fail(ErrorKind::kInvalid,
              "the context has {} tokens, and the shortest chat with it {}: no answer fits the model's context length of {}",
              tokens.size(), chat.size(), n_ctx);
}

}  // namespace celslm
