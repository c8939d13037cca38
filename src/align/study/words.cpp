#include "align/study/words.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <set>

namespace celslm {
namespace {

constexpr std::string_view kSpaces = " \t\n\v\f\r";
constexpr double kAgreement = 0.5;  // F1

struct Character {
  std::uint32_t point = 0;  // 0: a byte that is no character
  std::size_t bytes = 1;
};

// The character that the text begins with.
Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t lead = byte(0);
  const std::size_t n = lead >= 0xF0U ? 4 : lead >= 0xE0U ? 3 : lead >= 0xC0U ? 2 : 1;
  if (n == 1) return {.point = lead < 0x80U ? lead : 0};
  if (text.size() < n) return {};
  std::uint32_t point = lead & (0xFFU >> (n + 1));
  for (std::size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return {};
    point = point << 6U | (byte(i) & 0x3FU);
  }
  return {.point = point, .bytes = n};
}

void append(std::string& out, std::uint32_t point) {
  if (point < 0x80U) {
    out += static_cast<char>(point);
  } else if (point < 0x800U) {
    out += static_cast<char>(0xC0U | point >> 6U);
    out += static_cast<char>(0x80U | (point & 0x3FU));
  }
}

bool within(std::uint32_t point, std::uint32_t first, std::uint32_t last) {
  return point >= first && point <= last;
}

bool is_punctuation(std::uint32_t p) {
  if (p < 0x80U) return within(p, 0x21, 0x2F) || within(p, 0x3A, 0x40) || within(p, 0x5B, 0x60) || within(p, 0x7B, 0x7E);
  constexpr std::array<std::uint32_t, 7> kLatin{0xA1, 0xA7, 0xAB, 0xB6, 0xB7, 0xBB, 0xBF};
  return std::ranges::contains(kLatin, p) || within(p, 0x2010, 0x2027) || within(p, 0x2030, 0x205E) ||
         within(p, 0x3001, 0x3003) || within(p, 0x3008, 0x3011) || within(p, 0xFF01, 0xFF0F) || within(p, 0xFF1A, 0xFF20);
}

std::uint32_t lower(std::uint32_t p) {
  if (within(p, 'A', 'Z') || (within(p, 0xC0, 0xDE) && p != 0xD7U)) return p + 32;
  if ((within(p, 0x100, 0x137) || within(p, 0x14A, 0x177)) && p != 0x130U) return p | 1U;
  if (within(p, 0x139, 0x148) || within(p, 0x179, 0x17E)) return p + p % 2;
  if (within(p, 0x391, 0x3A9) || within(p, 0x410, 0x42F)) return p + 32;
  return within(p, 0x400, 0x40F) ? p + 80 : p;
}

// Without what is_punctuation() names, in lower case.
std::string plain(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Character c = first_character(text);
    if (!is_punctuation(c.point)) {
      const std::uint32_t small = lower(c.point);
      if (small == c.point) {
        out += text.substr(0, c.bytes);
      } else {
        append(out, small);
      }
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

std::set<std::string_view> word_set(std::string_view text) {
  const auto words = words_of(text);
  return {words.begin(), words.end()};
}

}  // namespace

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> out;
  while (true) {
    const std::size_t first = text.find_first_not_of(kSpaces);
    if (first == std::string_view::npos) return out;
    const std::size_t end = std::min(text.find_first_of(kSpaces, first), text.size());
    out.push_back(text.substr(first, end - first));
    text.remove_prefix(end);
  }
}

std::string normalised(std::string_view text) {
  const std::string letters = plain(text);
  std::string out;
  for (const std::string_view word : words_of(letters)) {
    if (word == "a" || word == "an" || word == "the") continue;
    if (!out.empty()) out += ' ';
    out += word;
  }
  return out;
}

double word_f1(std::string_view a, std::string_view b) {
  const std::string left = normalised(a);
  const std::string right = normalised(b);
  const auto left_words = words_of(left);
  const auto right_words = words_of(right);
  if (left_words.empty() || right_words.empty()) return left_words.empty() && right_words.empty() ? 1.0 : 0.0;
  std::map<std::string_view, int> counts;
  for (const std::string_view word : left_words) ++counts[word];
  double same = 0.0;
  for (const std::string_view word : right_words) same += counts[word]-- > 0 ? 1.0 : 0.0;
  return 2.0 * same / static_cast<double>(left_words.size() + right_words.size());
}

bool contains_phrase(std::string_view text, std::string_view phrase) {
  const std::string words = normalised(phrase);
  return !words.empty() && (" " + normalised(text) + " ").contains(" " + words + " ");
}

double word_overlap(std::string_view a, std::string_view b) {
  const std::string left = normalised(a);
  const std::string right = normalised(b);
  const auto left_words = word_set(left);
  const auto right_words = word_set(right);
  const auto both = std::ranges::count_if(left_words, [&](std::string_view word) { return right_words.contains(word); });
  const auto either = static_cast<double>(left_words.size() + right_words.size()) - static_cast<double>(both);
  return either == 0.0 ? 1.0 : static_cast<double>(both) / either;
}

bool answers_agree(std::string_view a, std::string_view b) {
  if (normalised(a).empty() || normalised(b).empty()) return false;
  return contains_phrase(a, b) || contains_phrase(b, a) || word_f1(a, b) >= kAgreement;
}

}  // namespace celslm
