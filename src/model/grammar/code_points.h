// Characters of grammars.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace celslm {

// Bytes that are not UTF-8 become U+FFFD.
std::u32string code_points_of(std::string_view text);

// As it may stand within the brackets of a GBNF class.
std::string class_character(char32_t c);

struct CodeRange {
  char32_t first = 0;
  char32_t last = 0;
  bool operator==(const CodeRange&) const = default;
};

inline constexpr char32_t kLastCodePoint = 0x10FFFF;

// Sorted, without overlaps.
using CodeSet = std::vector<CodeRange>;
CodeSet normalized(CodeSet ranges);
CodeSet complement(const CodeSet& set);  // of a normalized one

// GBNF for one character of the set as it is written within a JSON string: plainly, or as an escape where it has to be.
std::string json_character(const CodeSet& set);

}  // namespace celslm
