// What needs no model: words, pairs, prompts, checks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "align/study/checks.h"
#include "align/study/pairs.h"
#include "align/study/prompts.h"
#include "align/study/words.h"

namespace celslm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

std::vector<std::string> shown(const std::vector<QaPair>& pairs) {
  std::vector<std::string> out;
  for (const QaPair& pair : pairs) out.push_back(pair.question + " | " + pair.answer);
  return out;
}

std::vector<std::string> parsed(std::string_view reply, bool complete = true, std::size_t limit = 10) {
  return shown(parse_pairs(reply, complete, limit));
}

TEST(StudyWordsTest, NormalisingIsThatOfTheScoring) {
  EXPECT_EQ(normalised("The  Panthers' \"defense\", a\tnew An!"), "panthers defense new");
  EXPECT_EQ(normalised("Ärger – ŁÓDŹ, Ωμέγα; МОСКВА ×"), "ärger łódź ωμέγα москва ×");
  EXPECT_EQ(normalised("«1,000» (of)"), "1000 of");
  EXPECT_EQ(normalised("a \xFF\xC3 The"), "\xFF\xC3") << "ill-formed bytes stay";
}

TEST(StudyWordsTest, AnswersAgreeWhenEqualContainedOrMostlyTheSame) {
  EXPECT_TRUE(answers_agree("The 24 teams.", "24 teams"));
  EXPECT_TRUE(answers_agree("in March 1998", "March 1998"));
  EXPECT_TRUE(answers_agree("a red boat on the river", "red boat by river"));
  EXPECT_FALSE(answers_agree("1998", "19")) << "a number is no part of another";
  EXPECT_FALSE(answers_agree("red boat", "blue house"));
  EXPECT_FALSE(answers_agree("...", "..."));
  EXPECT_FALSE(answers_agree("", "boat"));
}

TEST(StudyPairsTest, ReadsTheFormatThatWasAskedFor) {
  EXPECT_THAT(parsed("Q: Who built the boat?\nA: Ann\n\nQ: When was it built?\nA: in 1998"),
              ElementsAre("Who built the boat? | Ann", "When was it built? | in 1998"));
}

TEST(StudyPairsTest, ReadsWhatModelsMakeOfIt) {
  EXPECT_THAT(parsed("Sure! Here they are:\n1. **Q:** Who built the boat?\n   **A:** \"Ann\"\n"
                     "**Question 2:** When was it built?\r\n**Answer 2:** `1998`\r\n"
                     "3) q3: Where does it lie now?\na3: In Leith.\nThat is all."),
              ElementsAre("Who built the boat? | Ann", "When was it built? | 1998", "Where does it lie now? | In Leith."));
}

TEST(StudyPairsTest, PassesOverWhatIsNoPair) {
  EXPECT_THAT(parsed(""), IsEmpty());
  EXPECT_THAT(parsed("The text is about boats.\n\n\n"), IsEmpty());
  EXPECT_THAT(parsed("A: Ann\nA: Bea"), IsEmpty()) << "answers to nothing";
  EXPECT_THAT(parsed("Q: Who built the boat?\nQ: Who sold the boat?\nA: Ann"), ElementsAre("Who sold the boat? | Ann"));
  EXPECT_THAT(parsed("Q: Who built the boat?\nA: \nQ: Who?\nA: Ann"), IsEmpty()) << "no answer, and too short a question";
  EXPECT_THAT(parsed("Quality: high and dry\nA: Ann"), IsEmpty()) << "a word that begins with Q";
}

TEST(StudyPairsTest, HostileRepliesYieldNothing) {
  EXPECT_THAT(parsed(std::string("Q: Who built\0the boat?\nA: Ann", 30)), IsEmpty());
  EXPECT_THAT(parsed("Q: Who built \x1B[2Jthe boat?\nA: Ann"), IsEmpty());
  EXPECT_THAT(parsed("Q: Who built \xC3the boat?\nA: Ann"), IsEmpty());
  EXPECT_THAT(parsed("Q: Who built the boat?\nA: \xFF"), IsEmpty());
  EXPECT_THAT(parsed("Q: " + std::string(5000, 'x') + "?\nA: Ann"), IsEmpty());
  EXPECT_THAT(parsed("Q: Who built the boat?\nA: " + std::string(5000, 'x')), IsEmpty());
  EXPECT_THAT(parsed(std::string(1'000'000, '*') + "\n" + std::string(1'000'000, '1')), IsEmpty());
  EXPECT_THAT(parsed(std::string(100'000, '\n')), IsEmpty());
}

TEST(StudyPairsTest, NeverMoreThanWereAskedFor) {
  std::string reply;
  for (int i = 0; i < 100; ++i) reply += "Q: Who built the boat?\nA: Ann\n";
  EXPECT_THAT(parsed(reply, true, 4), SizeIs(4));
}

TEST(StudyPairsTest, OfAReplyThatWasCutOffTheLastLineIsNotUsed) {
  EXPECT_THAT(parsed("Q: Who built the boat?\nA: Ann\nQ: When was it built?\nA: in 19", false),
              ElementsAre("Who built the boat? | Ann"));
  EXPECT_THAT(parsed("Q: Who built the boat? A: An", false), IsEmpty());
}

std::string long_text() {
  std::string out;
  for (int i = 0; i < 60; ++i)
    out += "Captain Number" + std::to_string(i) + " sailed boat " + std::to_string(i) + " to Leith with nine sailors. ";
  return out;
}

TEST(StudyPromptsTest, PassagesCoverTheTextFromSentenceToSentence) {
  const std::string text = long_text();
  const auto passages = passages_of(text);
  ASSERT_GE(passages.size(), 10U);
  ASSERT_LE(passages.size(), 32U);
  std::size_t last = 0;
  for (const Passage& passage : passages) {
    EXPECT_TRUE(passage.quote.starts_with("Captain")) << passage.quote;
    const std::size_t at = text.find(passage.quote);
    ASSERT_NE(at, std::string::npos);
    EXPECT_LE(at - last, 900U) << "a gap";
    last = at;
    EXPECT_FALSE(passage.styles.empty());
  }
  EXPECT_THAT(passages_of(""), IsEmpty());
  EXPECT_THAT(passages_of(" \n\t"), IsEmpty());
  EXPECT_THAT(passages_of("One."), SizeIs(1));
}

TEST(StudyPromptsTest, QuotesAreShortLinesOfWholeCharacters) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "ÄÖÜäöüßÄÖÜäöüß\n";
  for (const Passage& passage : passages_of(text)) {
    EXPECT_LE(passage.quote.size(), 110U);
    EXPECT_FALSE(passage.quote.contains('\n'));
    EXPECT_NE(static_cast<unsigned char>(passage.quote.back()), 0xC3U) << "half a character";
  }
}

TEST(StudyPromptsTest, CodeIsAskedForWhatFunctionsReturn) {
  const auto passages = passages_of("def mean(values):\n    total = sum(values)\n    return total / len(values)\n");
  ASSERT_THAT(passages, SizeIs(1));
  EXPECT_THAT(passages[0].styles, testing::Contains(QuestionStyle::kReturns));
  const auto prose = passages_of("The mean of some values is their sum through their number. It is used a lot.");
  EXPECT_THAT(prose[0].styles, testing::Not(testing::Contains(QuestionStyle::kReturns)));
  EXPECT_THAT(prose[0].styles, testing::Not(testing::Contains(QuestionStyle::kNumbers))) << "there is none";
}

TEST(StudyPromptsTest, EveryRunVisitsEveryPassageOnceWithAnotherStyle) {
  const auto passages = passages_of(long_text());
  std::set<std::pair<std::size_t, QuestionStyle>> seen;
  for (std::size_t run = 0; run < 3; ++run) {
    std::set<std::size_t> visited;
    for (std::size_t i = 0; i < passages.size(); ++i) {
      const AskPlan plan = plan_turn(passages, 7, run * passages.size() + i);
      visited.insert(plan.passage);
      EXPECT_TRUE(seen.emplace(plan.passage, plan.style).second) << "the same style twice";
      EXPECT_NE(plan.other, plan.passage);
      EXPECT_LT(plan.other, passages.size());
    }
    EXPECT_EQ(visited.size(), passages.size());
  }
}

TEST(StudyPromptsTest, PlansFollowTheSeed) {
  const auto passages = passages_of(long_text());
  EXPECT_EQ(plan_turn(passages, 7, 3).seed, plan_turn(passages, 7, 3).seed);
  EXPECT_NE(plan_turn(passages, 7, 3).seed, plan_turn(passages, 8, 3).seed);
  EXPECT_NE(plan_turn(passages, 7, 3).seed, plan_turn(passages, 7, 4).seed);
}

constexpr const char* kText = "The boat Dora was built by Ann Leith in 1998. It carries 24 sailors to the harbour of Riga.";

std::optional<std::string> written(const Candidate& candidate) {
  const auto reason = check_written(candidate);
  return reason ? std::optional<std::string>(*reason) : std::nullopt;
}

TEST(StudyChecksTest, QuestionsThatCannotBeUnderstoodAloneAreDropped) {
  EXPECT_EQ(written({.question = "Who built the boat Dora?", .written = "Ann Leith"}), std::nullopt);
  EXPECT_EQ(written({.question = "What is this part of the text about?", .written = "Ann Leith"}), dropped::kUnclear);
  EXPECT_EQ(written({.question = "Who built it then?", .written = "Ann Leith"}), dropped::kUnclear);
  EXPECT_EQ(written({.question = "The boat was built by Ann Leith.", .written = "Ann Leith"}), dropped::kUnclear);
}

TEST(StudyChecksTest, TheWrittenAnswerMayBeASentenceButNoParagraph) {
  std::string sentence = "Ann Leith";
  for (int i = 0; i < 28; ++i) sentence += " word";
  EXPECT_EQ(written({.question = "Who built the boat Dora?", .written = sentence}), std::nullopt);
  EXPECT_EQ(written({.question = "Who built the boat Dora?", .written = sentence + " more"}), dropped::kTooLong);
}

std::optional<std::string> answered(const Reply& greedy, const Reply& sampled, QuestionStyle style = QuestionStyle::kFacts) {
  const auto reason = check_answers({.question = "Who built the boat Dora?", .written = "Ann Leith", .style = style}, greedy,
                                    sampled, kText);
  return reason ? std::optional<std::string>(*reason) : std::nullopt;
}

TEST(StudyChecksTest, AQuestionIsKeptWhereAllAnswersAgree) {
  const Reply right{.text = "Ann Leith.", .ended = true};
  EXPECT_EQ(answered(right, right), std::nullopt);
  EXPECT_EQ(answered(right, {.text = "Bea", .ended = true}), dropped::kUnsure);
  EXPECT_EQ(answered({.text = "Riga", .ended = true}, {.text = "Riga", .ended = true}), dropped::kDiffers);
  EXPECT_EQ(answered({.text = "Ann Leith", .ended = false}, right), dropped::kUnanswered);
  EXPECT_EQ(answered({.text = "", .ended = true}, right), dropped::kUnanswered);
  EXPECT_EQ(answered({.text = "Ann Leith is not mentioned.", .ended = true}, right), dropped::kUnanswered);
  const Reply sentence{.text = "Ann Leith is the one who built it, as the text tells us all", .ended = true};
  EXPECT_EQ(answered(sentence, sentence), dropped::kTooLong);
  const Reply other{.text = "Ann Leith junior", .ended = true};
  EXPECT_EQ(answered(other, other), dropped::kNotInText);
  EXPECT_EQ(answered(other, other, QuestionStyle::kSummary), std::nullopt);
}

TEST(StudyChecksTest, NamesInQuestionsHaveToStandInTheText) {
  const Reply right{.text = "Ann Leith", .ended = true};
  const auto asked = [&](const std::string& question) {
    return check_answers({.question = question, .written = "Ann Leith"}, right, right, kText).has_value();
  };
  EXPECT_FALSE(asked("Who built Dora?"));
  EXPECT_FALSE(asked("Who was Dora's builder?"));
  EXPECT_TRUE(asked("Who built the boat Bella?"));
  EXPECT_TRUE(asked("Who called the function build_boat?"));
}

TEST(StudyChecksTest, WhatTheModelAsksAsAUserHasToNameWhatStandsInTheText) {
  const auto asked = [](const std::string& text, bool ended = true) {
    const auto reason = check_user_turn({.text = text, .ended = ended}, kText);
    return reason ? std::optional<std::string>(*reason) : std::nullopt;
  };
  EXPECT_EQ(asked("Where does the boat Dora go?"), std::nullopt);
  EXPECT_EQ(asked("Where does the boat Bella go?"), dropped::kNotInText);
  EXPECT_EQ(asked("Where does the boat Dora go?", false), dropped::kUnclear);
  EXPECT_EQ(asked("The boat Dora goes to Riga."), dropped::kUnclear);
  EXPECT_EQ(asked(""), dropped::kUnclear);
  EXPECT_EQ(asked("?"), dropped::kUnclear);
}

TEST(StudyChecksTest, ItsAnswersHaveToBeEqual) {
  const Reply riga{.text = "Boat Dora goes to Riga.", .ended = true};
  const Reply leith{.text = "Boat Dora goes to Leith.", .ended = true};
  const Reply oslo{.text = "Boat Dora goes to Oslo.", .ended = true};
  EXPECT_EQ(check_equal_answers(riga, riga, kText), std::nullopt);
  EXPECT_STREQ(check_equal_answers(riga, leith, kText).value(), dropped::kUnsure) << "most words are the same";
  EXPECT_STREQ(check_equal_answers(oslo, oslo, kText).value(), dropped::kNotInText);
  EXPECT_STREQ(check_equal_answers({.text = "", .ended = true}, riga, kText).value(), dropped::kUnanswered);
}

TEST(StudyChecksTest, DuplicatesAreThoseOfTheSameWords) {
  SeenQuestions seen;
  EXPECT_TRUE(seen.add("Who built the boat Dora?", "Ann"));
  EXPECT_FALSE(seen.add("who built a boat, Dora", "Bea")) << "the same, normalised";
  EXPECT_FALSE(seen.add("Who built the old boat Dora?", "Ann")) << "most words and the answer are the same";
  EXPECT_TRUE(seen.add("Who built the old red boat?", "Bea"));
  EXPECT_TRUE(seen.add("Where does Dora carry sailors?", "Riga"));
  SeenQuestions equal_only(true);
  EXPECT_TRUE(equal_only.add("Which container holds crate Lilac?", "Riga"));
  EXPECT_TRUE(equal_only.add("Which container holds crate Olive?", "Riga"));
  EXPECT_FALSE(equal_only.add("which container holds crate olive", "Oslo"));
}

}  // namespace
}  // namespace celslm
