// Texts compared as docs/questions.md scores replies: normalised, word by word.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace celslm {

// Lower case, without punctuation and the words "a", "an" and "the", single spaces. Cases of Latin, Greek and Cyrillic
// letters; punctuation of ASCII, Latin-1, and the blocks of general, CJK and full-width punctuation. Ill-formed UTF-8 stays.
std::string normalised(std::string_view text);

// Between white space.
std::vector<std::string_view> words_of(std::string_view text);

// Of the words of two texts, both normalised here; 0 to 1. Two texts without words are equal.
double word_f1(std::string_view a, std::string_view b);
// Whether the normalised phrase, not empty, stands in the normalised text, from word to word.
bool contains_phrase(std::string_view text, std::string_view phrase);
// Words that both texts have, of those that either has; 0 to 1.
double word_overlap(std::string_view a, std::string_view b);

// Whether two answers are one: the same, one contains the other, or F1 of at least 0.5. Never for an answer without words.
bool answers_agree(std::string_view a, std::string_view b);

}  // namespace celslm
