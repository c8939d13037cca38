// How many tokens a text has at least, without tokenizing it: a text of megabytes is refused in a fraction of the time and
// with none of the memory (libllama takes about 60 bytes for each byte of text).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace celslm {

// Whatever a tokenizer does, its tokens' texts follow each other as the text does. So no tokenization has fewer tokens than
// the shortest way to cut the text into pieces that are tokens. Characters for which there is no token count as one.
// Immutable; thread-safe.
class TokenBound {
 public:
  // words: the texts of all tokens. Empty ones do not count.
  explicit TokenBound(std::vector<std::string> words);

  // Counts until it is certain that the text has more than `enough`: then enough + 1 is returned. Takes no memory.
  std::size_t at_least(std::string_view text, std::size_t enough) const;

 private:
  struct Range {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };
  Range narrowed(Range range, std::size_t depth, char next) const;
  // Calls found(n) for each n so that the first n bytes of `text` are a token.
  template <typename Found>
  void for_each_token_at(std::string_view text, const Found& found) const;

  std::vector<std::string> words_;        // sorted
  std::array<Range, 256> by_first_byte_;  // of words_
  std::size_t longest_ = 4;               // bytes: of a word, or of a character
};

class Text;

// A lower bound of Text::tokenize(), with and without control tokens: the text is not tokenized, and read only until it is
// certain that there are more than `enough`: then enough + 1. 0 where nothing can be told. Thread-safe.
std::size_t at_least_tokens(const Text& model, std::string_view text, std::size_t enough);

}  // namespace celslm
