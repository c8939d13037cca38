#include "align/study/pairs.h"

#include <algorithm>
#include <optional>

#include "core/text.h"
#include "core/utf8.h"

namespace celslm {
namespace {

constexpr std::size_t kLeastQuestionBytes = 8;
constexpr std::size_t kMostQuestionBytes = 300;
constexpr std::size_t kMostAnswerBytes = 200;
constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kMarkup = " \t\r*#-_>";  // around a label
constexpr std::string_view kDigits = "0123456789";

void skip(std::string_view& line, std::string_view characters) {
  line.remove_prefix(std::min(line.find_first_not_of(characters), line.size()));
}

bool take_word(std::string_view& line, std::string_view lower_case) {
  if (line.size() < lower_case.size()) return false;
  const bool same = std::ranges::equal(line.substr(0, lower_case.size()), lower_case, [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + ('a' - 'A')) : a) == b;
  });
  if (same) line.remove_prefix(lower_case.size());
  return same;
}

// What follows the label, where the line begins with it: "**Q2:** Which ...?".
std::optional<std::string_view> after_label(std::string_view line, std::string_view word, std::string_view letter) {
  skip(line, kMarkup);
  std::string_view numbered = line;
  skip(numbered, kDigits);
  if (numbered.size() < line.size() && (numbered.starts_with('.') || numbered.starts_with(')'))) {
    line = numbered.substr(1);
    skip(line, kMarkup);
  }
  if (!take_word(line, word) && !take_word(line, letter)) return {};
  skip(line, kBlanks);
  skip(line, kDigits);
  skip(line, kMarkup);
  if (!line.starts_with(':')) return {};
  return trimmed(line.substr(1), kMarkup);
}

bool usable(std::string_view text, std::size_t least, std::size_t most) {
  const bool control = std::ranges::any_of(text, [](unsigned char c) { return c < 0x20U || c == 0x7FU; });
  return text.size() >= least && text.size() <= most && !control && is_utf8(text);
}

// Around the answer alone: quotes and backticks, which models put there.
std::string_view without_quotes(std::string_view text) {
  for (const std::string_view quote : {"\"", "`", "'"}) {
    if (text.size() > 2 && text.starts_with(quote) && text.ends_with(quote)) return text.substr(1, text.size() - 2);
  }
  return text;
}

}  // namespace

std::vector<QaPair> parse_pairs(std::string_view reply, bool complete, std::size_t limit) {
  if (!complete) reply = reply.substr(0, reply.rfind('\n') == std::string_view::npos ? 0 : reply.rfind('\n'));
  std::vector<QaPair> out;
  std::string_view question;  // that waits for its answer; empty: none does
  while (!reply.empty() && out.size() < limit) {
    const std::size_t end = std::min(reply.find('\n'), reply.size());
    const std::string_view line = reply.substr(0, end);
    reply.remove_prefix(std::min(end + 1, reply.size()));
    if (const auto asked = after_label(line, "question", "q")) {
      question = usable(*asked, kLeastQuestionBytes, kMostQuestionBytes) ? *asked : "";
    } else if (const auto answered = after_label(line, "answer", "a")) {
      const std::string_view answer = without_quotes(*answered);
      if (!question.empty() && usable(answer, 1, kMostAnswerBytes))
        out.emplace_back(std::string(question), std::string(answer));
      question = {};
    }
  }
  return out;
}

}  // namespace celslm
