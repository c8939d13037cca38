// What an answer must look like, as a request carries it.
#pragma once

#include <string>
#include <vector>

namespace celslm {

// GBNF, the notation of llama.cpp's `grammar` field, with a rule named root. Without triggers the answer follows it from its
// first token; with some, from the first occurrence of one of these strings in the answer on, that string included.
struct GrammarSpec {
  std::string text;  // empty: anything goes
  std::vector<std::string> triggers;

  bool empty() const { return text.empty(); }
  bool operator==(const GrammarSpec&) const = default;
};

}  // namespace celslm
