// Which of the questions that a model wrote are kept, and why the others are not.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "align/study/prompts.h"
#include "align/study/turns.h"

namespace celslm {

// Reasons, as they are counted in study files.
namespace dropped {
inline constexpr const char* kDuplicate = "duplicate";      // of a question kept, or of one of the same round
inline constexpr const char* kUnclear = "unclear";          // it refers to "this part", or is not a question
inline constexpr const char* kTooLong = "answer_too_long";  // more than kMostAnswerWords
inline constexpr const char* kNotInText = "not_in_text";    // style that asks for the text's own words
inline constexpr const char* kUnanswered = "unanswered";    // no end, nothing, or "the text does not mention it"
inline constexpr const char* kUnsure = "unsure";            // two answers to the same question differ
inline constexpr const char* kDiffers = "differs";          // the answer is not the one that came with the question
inline constexpr const char* kNotChecked = "not_checked";   // enough were kept, or the budget was spent
}  // namespace dropped

inline constexpr std::size_t kMostAnswerWords = 12;   // of the answer that is kept
inline constexpr std::size_t kMostWrittenWords = 30;  // of the one that came with the question: a sentence may hold it

struct Candidate {
  std::string question;
  std::string written;  // the answer that came with it
  QuestionStyle style = QuestionStyle::kFacts;
};

// Before the model is asked: a reason to drop it, or none.
std::optional<const char*> check_written(const Candidate& candidate);
// After it answered twice, greedily and by chance. `text` is the context.
std::optional<const char*> check_answers(const Candidate& candidate, const Reply& greedy, const Reply& sampled,
                                         std::string_view text);

// The same for questions that the model wrote as a user's turn. They come without an answer; every name in question and
// answer (a word with a capital inside a sentence) has to stand in the text.
std::optional<const char*> check_user_turn(const Reply& question, std::string_view text);
std::optional<const char*> check_equal_answers(const Reply& greedy, const Reply& sampled, std::string_view text);

// The answer as it is kept: without white space and line ends around it.
std::string kept_answer(std::string_view reply);

// Whether a question is new: not the same words as one before, and not most of them.
class SeenQuestions {
 public:
  // equal_only: only the same words make a duplicate, for questions that all have one form and differ in a name.
  explicit SeenQuestions(bool equal_only = false) : equal_only_(equal_only) {}
  // False for a duplicate; otherwise it is remembered.
  bool add(std::string_view question, std::string_view answer);

 private:
  struct Seen {
    std::string question;  // normalised
    std::string answer;    // likewise
  };
  const bool equal_only_;
  std::vector<Seen> seen_;
};

}  // namespace celslm
