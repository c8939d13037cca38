#include "align/study/checks.h"

#include <algorithm>
#include <array>

#include "align/study/words.h"
#include "core/text.h"

namespace celslm {
namespace {

constexpr double kSameQuestion = 0.8;  // word overlap
constexpr double kSameAnswered = 0.6;  // the same, where the answers are equal, too
constexpr std::string_view kSpaces = " \t\n\v\f\r";

// Normalised. A user of the context cannot know what they point at.
constexpr std::array<std::string_view, 10> kPointers{"this part",   "part of text",  "the passage", "this passage",
                                                     "the excerpt", "given text",    "quoted",      "begins with",
                                                     "above",       "first sentence"};
constexpr std::array<std::string_view, 9> kRefusals{"not mentioned",    "not specified", "not provided",
                                                    "not given",        "not stated",    "no information",
                                                    "does not mention", "does not say",  "unknown"};
// With which questions begin that need what was said before.
constexpr std::array<std::string_view, 6> kDangling{"he", "she", "they", "it", "this", "these"};

bool mentions(std::string_view normal, std::string_view phrase) {
  return contains_phrase(normal, phrase);
}

// "What did he do next?": the only words of weight are pronouns.
bool needs_what_came_before(std::string_view normal) {
  const auto words = words_of(normal);
  if (words.size() <= 3) return true;
  const auto dangles = [&](std::string_view word) { return std::ranges::contains(kDangling, word); };
  return words.size() <= 6 && std::ranges::any_of(words, dangles);
}

bool refuses(std::string_view normal) {
  return std::ranges::any_of(kRefusals, [&](std::string_view phrase) { return mentions(normal, phrase); });
}

// Without "'s" at its end.
std::string_view owner(std::string_view word) {
  for (const std::string_view end : {"'s", "’s", "'s?", "’s?"}) {
    if (word.ends_with(end)) return word.substr(0, word.size() - end.size());
  }
  return word;
}

// Names are words with a capital inside the sentence, and identifiers.
bool names_stand_in(std::string_view text, std::string_view sentence) {
  const auto words = words_of(sentence);
  return words.empty() || std::ranges::all_of(words.begin() + 1, words.end(), [&](std::string_view word) {
           const bool name = (word.front() >= 'A' && word.front() <= 'Z') || word.contains('_');
           return !name || contains_phrase(text, word) || contains_phrase(text, owner(word));
         });
}

}  // namespace

std::optional<const char*> check_user_turn(const Reply& question, std::string_view text) {
  const std::string asked = kept_answer(question.text);
  if (!question.ended || !asked.ends_with('?') || asked.contains('\n') || words_of(asked).size() < 3)
    return dropped::kUnclear;
  if (!names_stand_in(text, asked)) return dropped::kNotInText;
  return {};
}

std::optional<const char*> check_equal_answers(const Reply& greedy, const Reply& sampled, std::string_view text) {
  const std::string normal = normalised(greedy.text);
  if (!greedy.ended || normal.empty() || refuses(normal)) return dropped::kUnanswered;
  if (words_of(greedy.text).size() > kMostAnswerWords) return dropped::kTooLong;
  if (normal != normalised(sampled.text)) return dropped::kUnsure;
  if (!names_stand_in(text, greedy.text)) return dropped::kNotInText;
  return {};
}

std::optional<const char*> check_written(const Candidate& candidate) {
  const std::string normal = normalised(candidate.question);
  if (!candidate.question.ends_with('?') || needs_what_came_before(normal)) return dropped::kUnclear;
  if (std::ranges::any_of(kPointers, [&](std::string_view phrase) { return mentions(normal, phrase); }))
    return dropped::kUnclear;
  if (words_of(candidate.written).size() > kMostWrittenWords) return dropped::kTooLong;
  return {};
}

std::optional<const char*> check_answers(const Candidate& candidate, const Reply& greedy, const Reply& sampled,
                                         std::string_view text) {
  const std::string normal = normalised(greedy.text);
  if (!names_stand_in(text, candidate.question)) return dropped::kNotInText;
  if (!greedy.ended || normal.empty() || refuses(normal)) return dropped::kUnanswered;
  if (words_of(greedy.text).size() > kMostAnswerWords) return dropped::kTooLong;
  if (!answers_agree(greedy.text, sampled.text)) return dropped::kUnsure;
  if (!answers_agree(greedy.text, candidate.written)) return dropped::kDiffers;
  if (is_extractive(candidate.style) && !contains_phrase(text, greedy.text)) return dropped::kNotInText;
  return {};
}

std::string kept_answer(std::string_view reply) {
  return std::string(trimmed(reply, kSpaces));
}

bool SeenQuestions::add(std::string_view question, std::string_view answer) {
  Seen next{.question = normalised(question), .answer = normalised(answer)};
  for (const Seen& before : seen_) {
    if (before.question == next.question) return false;
    if (equal_only_) continue;
    const double overlap = word_overlap(before.question, next.question);
    if (overlap >= kSameQuestion || (overlap >= kSameAnswered && before.answer == next.answer)) return false;
  }
  seen_.push_back(std::move(next));
  return true;
}

}  // namespace celslm
