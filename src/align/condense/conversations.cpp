#include "align/condense/conversations.h"

#include <algorithm>
#include <string_view>

#include "core/utf8.h"

namespace celslm {
namespace {

// How much of the text makes a piece: the longest one that ends a line, or else a word.
std::size_t piece_length(std::string_view text) {
  if (text.size() <= kReadAgainBytes) return text.size();
  const std::string_view most = text.substr(0, kReadAgainBytes);
  for (const char end : {'\n', ' '}) {
    const std::size_t at = most.rfind(end);
    if (at != std::string_view::npos && at >= kReadAgainBytes / 2) return at + 1;
  }
  return most.size() - incomplete_utf8_tail(most);
}

}  // namespace

Result<std::vector<std::vector<Token>>> conversations_of(const Text& text, const std::string& system,
                                                         std::span<const StudyTurn> turns) {
  CELSLM_TRY(const auto context, text.context(system));
  std::vector<std::vector<Token>> out;
  for (const StudyTurn& turn : turns) {
    const std::vector<ChatMessage> messages{{"system", system}, {"user", turn.prompt}};
    CELSLM_TRY(auto tokens, text.chat(messages));
    if (!std::ranges::starts_with(tokens, context))
      return fail(ErrorKind::kInternal, "a conversation does not begin with its context's tokens");
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(context.size()));
    const auto answer = text.tokenize(turn.answer, false, false);
    tokens.insert(tokens.end(), answer.begin(), answer.end());
    out.push_back(std::move(tokens));
  }
  return out;
}

std::vector<StudyTurn> read_again(const std::string& system) {
  std::vector<StudyTurn> out;
  std::string_view rest = system;
  while (!rest.empty()) {
    const std::size_t n = piece_length(rest);
    out.push_back({.prompt = std::string(rest.substr(0, n)), .answer = {}});
    rest.remove_prefix(n);
  }
  return out;
}

}  // namespace celslm
