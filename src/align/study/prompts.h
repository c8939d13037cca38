// What a model is asked to write: in which styles, about which part of a text, in which words.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace celslm {

// What bench/questions.py puts before a text, and behind a question.
inline constexpr std::string_view kTextSystem = "Use the text below to answer the user's questions.\n\n";
inline constexpr const char* kUserTurnStyle = "user_turn";  // of questions that were not asked for in any style
inline constexpr std::string_view kBriefly = "\nAnswer with a few words only, no explanation.";

enum class QuestionStyle : std::uint8_t {
  kFacts,
  kDefinitions,
  kNumbers,
  kNames,
  kMultiStep,  // two parts of the text are needed
  kSays,       // "What does the text say about ...?"
  kSummary,
  kReturns,     // code: what a function returns
  kBehaviour,   // code: what a function does
  kParameters,  // code: parameters, defaults, types
};
const char* to_string(QuestionStyle style);
// Whether a correct answer stands in the text, in these words.
bool is_extractive(QuestionStyle style);

// Consecutive words of a text, named by its first ones.
struct Passage {
  std::string quote;                  // on one line
  std::vector<QuestionStyle> styles;  // that suit it, at least one
};
// Parts of about equal length that cover the text, each from the beginning of a sentence or line. Empty for a text without
// words.
std::vector<Passage> passages_of(std::string_view text);

// One turn that asks for questions.
struct AskPlan {
  QuestionStyle style = QuestionStyle::kFacts;
  std::size_t passage = 0;
  std::size_t other = 0;   // the second passage, kMultiStep only
  std::uint32_t seed = 0;  // of its sampling
};
// The turn number `index`, from 0 on: each run through all passages visits every one once, in an order of its own, with
// another of its styles. passages: not empty.
AskPlan plan_turn(std::span<const Passage> passages, std::uint64_t seed, std::size_t index);
// After so many turns every passage was visited in each of its styles.
std::size_t all_turns(std::span<const Passage> passages);

// The user's turn that asks for `count` questions. What differs between plans is at its end, so that tokens can be shared.
std::string ask_prompt(std::span<const Passage> passages, const AskPlan& plan, int count);

}  // namespace celslm
