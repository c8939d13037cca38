#include "align/texts/positions.h"

#include <algorithm>
#include <numeric>

namespace celslm {
namespace {

// The text of a token sequence and the byte offset at which each token ends.
struct DecodedTokens {
  std::string text;
  std::vector<std::size_t> ends;
};

// Control tokens are spelled out, or contribute no text.
DecodedTokens decode(const Text& text, std::span<const Token> tokens, bool spell_control) {
  DecodedTokens out;
  for (const Token token : tokens) {
    out.text += text.piece(token, spell_control);
    out.ends.push_back(out.text.size());
  }
  return out;
}

// Sequences truncated to the same number of tokens need not cover the same text: only their common length is compared.
bool same_text(const DecodedTokens& a, const DecodedTokens& b) {
  const std::size_t shared = std::min(a.text.size(), b.text.size());
  return std::string_view(a.text).substr(0, shared) == std::string_view(b.text).substr(0, shared);
}

std::vector<int> pair_ends(const std::vector<std::size_t>& source, const std::vector<std::size_t>& target) {
  std::vector<int> out;
  std::size_t at = 0;
  for (const std::size_t end : target) {
    while (at < source.size() && source[at] < end) ++at;
    if (at == source.size()) break;  // the source was truncated earlier
    out.push_back(static_cast<int>(at));
  }
  return out;
}

}  // namespace

Result<std::vector<int>> pair_positions(const Text& source_text, std::span<const Token> source, const Text& target_text,
                                        std::span<const Token> target) {
  for (const bool spell_control : {true, false}) {
    const DecodedTokens from = decode(source_text, source, spell_control);
    const DecodedTokens to = decode(target_text, target, spell_control);
    if (same_text(from, to)) return pair_ends(from.ends, to.ends);
  }
  return fail(ErrorKind::kMismatch,
              "the two models' chat templates produce different text for this context, so their tokens cannot be paired; "
              "align models whose templates agree, or give plain text");
}

}  // namespace celslm
