// The control tokens of a vocabulary as templates spell them, and where a text holds them.
#pragma once

#include <bitset>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "model/config.h"

namespace celslm {

struct ControlWord {
  std::string text;
  Token token = 0;
  bool strips_left = false;   // swallows the spaces before it
  bool strips_right = false;  // and after
};

// A part of a text: one control word, or what lies between them.
struct TextPart {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::optional<Token> token;
};

// Immutable; all members are thread-safe.
class ControlWords {
 public:
  explicit ControlWords(std::vector<ControlWord> words);
  ControlWords(const ControlWords&) = delete;
  ControlWords& operator=(const ControlWords&) = delete;

  // The text's parts in order, without empty ones and with spaces that a control word swallows left out. The longest words
  // are taken first, anywhere in the text, as libllama does. Parts without a token are never neighbours.
  std::vector<TextPart> split(std::string_view text) const;

  // Whether some control word begins or ends with this byte, blanks apart: a text without such bytes holds none.
  bool begins_or_ends_with(char byte) const { return edge_bytes_[static_cast<unsigned char>(byte)]; }
  // Whether these bytes hold a control word, or end within the beginning of one, or begin within the end of one.
  bool may_take_part(std::string_view bytes) const;

 private:
  std::vector<const ControlWord*> words_in(std::string_view text) const;

  std::vector<ControlWord> words_;  // longest first; the views below are into it
  std::unordered_map<std::string_view, const ControlWord*> by_text_;
  std::vector<std::size_t> lengths_;  // that occur
  std::bitset<256> first_bytes_;
  std::bitset<256> edge_bytes_;
  std::unordered_set<std::string_view> cores_;  // the words without blanks around them
  std::vector<std::size_t> core_lengths_;
  std::unordered_set<std::string_view> beginnings_;  // of each core, shorter than it
  std::unordered_set<std::string_view> endings_;
};

}  // namespace celslm
