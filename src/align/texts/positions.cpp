#include "align/texts/positions.h"

#include <algorithm>
#include <numeric>

namespace celslm {
namespace {

// Where each token ends, in bytes from the start of the text; control tokens as they are spelled, or as nothing.
struct Reading {
  std::string text;
  std::vector<std::size_t> ends;
};

Reading read(const Text& text, std::span<const Token> tokens, bool spell_control) {
  Reading out;
  for (const Token token : tokens) {
    out.text += text.piece(token, spell_control);
    out.ends.push_back(out.text.size());
  }
  return out;
}

// Both cut after the same number of tokens need not end at the same place: only what both have read is compared.
bool agree(const Reading& a, const Reading& b) {
  const std::size_t shared = std::min(a.text.size(), b.text.size());
  return std::string_view(a.text).substr(0, shared) == std::string_view(b.text).substr(0, shared);
}

std::vector<int> pair_ends(const std::vector<std::size_t>& source, const std::vector<std::size_t>& target) {
  std::vector<int> out;
  std::size_t at = 0;
  for (const std::size_t end : target) {
    while (at < source.size() && source[at] < end) ++at;
    if (at == source.size()) break;  // the source was cut before
    out.push_back(static_cast<int>(at));
  }
  return out;
}

}  // namespace

Result<std::vector<int>> pair_positions(const Text& source_text, std::span<const Token> source, const Text& target_text,
                                        std::span<const Token> target) {
  for (const bool spell_control : {true, false}) {
    const Reading from = read(source_text, source, spell_control);
    const Reading to = read(target_text, target, spell_control);
    if (agree(from, to)) return pair_ends(from.ends, to.ends);
  }
  return fail(ErrorKind::kMismatch,
              "the two models' chat templates word this context differently, so their tokens cannot be paired; only models "
              "with templates of the same words can be aligned on contexts");
}

}  // namespace celslm
