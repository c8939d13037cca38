#include "model/text/token_bound.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/utf8.h"
#include "model/text/vocabulary.h"

namespace celslm {
namespace {

constexpr std::uint32_t kUnreached = std::numeric_limits<std::uint32_t>::max();

std::size_t character_bytes(std::string_view text) {
  std::size_t n = 1;
  while (n < std::min<std::size_t>(text.size(), 4) && (static_cast<unsigned char>(text[n]) & 0xC0U) == 0x80U) ++n;
  return n;
}

// Whether the texts of tokens are the text: not where a tokenizer changes it first, or control words swallow the blanks
// around them.
bool keeps_all_text(const llama_vocab* vocab) {
  const auto type = llama_vocab_type(vocab);
  if (type != LLAMA_VOCAB_TYPE_SPM && type != LLAMA_VOCAB_TYPE_BPE) return false;
  constexpr unsigned kStrips = LLAMA_TOKEN_ATTR_LSTRIP | LLAMA_TOKEN_ATTR_RSTRIP | LLAMA_TOKEN_ATTR_NORMALIZED;
  for (Token t = 0; t < llama_vocab_n_tokens(vocab); ++t) {
    if ((static_cast<unsigned>(llama_vocab_get_attr(vocab, t)) & kStrips) != 0) return false;
  }
  return true;
}

}  // namespace

TokenBound::TokenBound(std::vector<std::string> words) : words_(std::move(words)) {
  std::erase_if(words_, [](const std::string& word) { return word.empty(); });
  std::ranges::sort(words_);
  words_.erase(std::ranges::unique(words_).begin(), words_.end());
  words_.shrink_to_fit();
  for (std::uint32_t i = 0; i < words_.size(); ++i) {
    Range& range = by_first_byte_[static_cast<unsigned char>(words_[i].front())];
    if (range.begin == range.end) range.begin = i;
    range.end = i + 1;
    longest_ = std::max(longest_, words_[i].size());
  }
}

// Of words with the same first `depth` bytes, those that have `next` behind them.
TokenBound::Range TokenBound::narrowed(Range range, std::size_t depth, char next) const {
  // A word that ends there is sorted before all bytes.
  const auto byte_at = [&](const std::string& word) {
    return word.size() > depth ? static_cast<int>(static_cast<unsigned char>(word[depth])) : -1;
  };
  const auto first = words_.begin() + range.begin;
  const auto last = words_.begin() + range.end;
  const auto found = std::ranges::equal_range(first, last, static_cast<int>(static_cast<unsigned char>(next)), {}, byte_at);
  return {static_cast<std::uint32_t>(found.begin() - words_.begin()),
          static_cast<std::uint32_t>(found.end() - words_.begin())};
}

template <typename Found>
void TokenBound::for_each_token_at(std::string_view text, const Found& found) const {
  Range range = by_first_byte_[static_cast<unsigned char>(text.front())];
  for (std::size_t depth = 1; range.begin < range.end; ++depth) {
    if (words_[range.begin].size() == depth) found(depth);
    if (depth == text.size()) return;
    range = narrowed(range, depth, text[depth]);
  }
}

std::size_t TokenBound::at_least(std::string_view text, std::size_t enough) const {
  // fewest[i % size]: tokens up to byte i. All that lies further ahead than a token is still unreached.
  std::vector<std::uint32_t> fewest(longest_ + 1, kUnreached);
  const auto at = [&](std::size_t i) -> std::uint32_t& { return fewest[i % fewest.size()]; };
  at(0) = 0;
  // Every tokenization has a boundary among `longest_` neighbouring bytes: it has at least the fewest tokens of any of them.
  std::uint32_t fewest_nearby = kUnreached;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::uint32_t here = std::exchange(at(i), kUnreached);
    fewest_nearby = std::min(fewest_nearby, here);
    if (i % longest_ == longest_ - 1 && std::exchange(fewest_nearby, kUnreached) > enough) return enough + 1;
    if (here == kUnreached) continue;
    const auto reach = [&](std::size_t bytes) { at(i + bytes) = std::min(at(i + bytes), here + 1); };
    const std::string_view rest = text.substr(i);
    reach(character_bytes(rest));
    for_each_token_at(rest, reach);
  }
  return std::min<std::size_t>(at(text.size()), enough + 1);
}

std::size_t at_least_tokens(const Text& model, std::string_view text, std::size_t enough) {
  const Text::Impl& impl = model.impl();
  std::call_once(impl.bound_made, [&] {
    if (!keeps_all_text(impl.vocab)) return;
    std::vector<std::string> words;
    words.reserve(static_cast<std::size_t>(model.n_vocab()));
    for (Token t = 0; t < model.n_vocab(); ++t) words.push_back(model.piece(t, true));
    impl.bound.emplace(std::move(words));
  });
  // What is no UTF-8 is tokenized as something else.
  return impl.bound && is_utf8(text) ? impl.bound->at_least(text, enough) : 0;
}

}  // namespace celslm
