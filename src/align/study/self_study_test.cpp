// Rounds, budgets and state files, with a model that follows a script.
#include "align/study/self_study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "align/study/journal.h"
#include "tests/support/random_model.h"
#include "tests/support/scripted_study.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing_support::boats;
using testing_support::ScriptedModel;
using testing_support::TemporaryFolder;

StudyProgress finish(SelfStudy& study) {
  while (!study.progress().finished) EXPECT_TRUE(study.advance());
  return study.progress();
}

std::string line_of(const StudyProgress& progress, const StudyOptions& options) {
  return study_line({.id = "boats", .text = boats()}, progress, options, hash_of("model"));
}

TEST(SelfStudyTest, KeepsQuestionsWithCheckedAnswersAndTheTeachersDistribution) {
  ScriptedModel model;
  SelfStudy study(model, boats(), {.questions = 10});
  const StudyProgress progress = finish(study);
  ASSERT_THAT(progress.questions, SizeIs(10));
  const StudiedQuestion& first = progress.questions.front();
  EXPECT_THAT(first.question, HasSubstr("Which captain has boat Dora"));
  EXPECT_THAT(first.answers.front(), HasSubstr("Ann"));
  EXPECT_THAT(first.teacher.tokens, SizeIs(2));
  EXPECT_FALSE(first.closed_book);
  EXPECT_EQ(progress.tokens, model.spent + ScriptedModel::kContextTokens);
}

TEST(SelfStudyTest, MarksWhatTheModelKnowsWithoutTheContext) {
  ScriptedModel model;
  model.says = [](const Turn& turn, const Continuation& how, bool) { return ScriptedModel::answer(turn, how, true); };
  SelfStudy study(model, boats(), {.questions = 3});
  for (const StudiedQuestion& question : finish(study).questions) EXPECT_TRUE(question.closed_book);
}

TEST(SelfStudyTest, AModelThatFollowsNoInstructionsAsksAsItsUsersDo) {
  ScriptedModel model;
  const StudyOptions options{.questions = 30, .ask_by = AskBy::kUserTurn};
  SelfStudy study(model, boats(), options);
  const StudyProgress progress = finish(study);
  ASSERT_THAT(progress.questions, SizeIs(30));
  for (const StudiedQuestion& question : progress.questions) {
    EXPECT_TRUE(boats().contains(question.question.substr(question.question.find("Dora"), 5)));
    EXPECT_EQ(question.style, kUserTurnStyle);
    EXPECT_THAT(question.answers, SizeIs(1));
  }
  EXPECT_GT(progress.dropped.at(dropped::kNotInText), 0) << "a boat that the text does not know";
  for (const std::string& user : model.heard) EXPECT_FALSE(user.contains("few words")) << user;
  EXPECT_THAT(line_of(progress, options), HasSubstr("\"plain\":true"));
}

TEST(SelfStudyTest, AModelThatWritesNonsenseEndsAfterAFewRounds) {
  ScriptedModel model;
  model.says = [](const Turn&, const Continuation&, bool) { return std::string(3000, '\n') + "Q: \xFF\nQ:\nA:A: A:"; };
  SelfStudy study(model, boats(), {.budget = 1'000'000});
  const StudyProgress progress = finish(study);
  EXPECT_THAT(progress.questions, IsEmpty());
  EXPECT_EQ(model.batches, 3);
}

TEST(SelfStudyTest, AModelThatRepeatsItselfEndsToo) {
  ScriptedModel model;
  model.says = [](const Turn& turn, const Continuation& how, bool with_context) {
    return ScriptedModel::answer(turn, {.temperature = how.temperature, .seed = 5}, with_context);
  };
  SelfStudy study(model, boats(), {.budget = 1'000'000, .questions = 1000});
  const StudyProgress progress = finish(study);
  EXPECT_THAT(progress.questions, SizeIs(4));
  EXPECT_GT(progress.dropped.at(dropped::kDuplicate), 10);
}

TEST(SelfStudyTest, TheBudgetIsNeverPassed) {
  std::size_t kept = 0;
  for (const std::int64_t budget : {1, 400, 900, 1500, 3000, 6000, 12'000}) {
    ScriptedModel model;
    SelfStudy study(model, boats(), {.budget = budget, .questions = 1000});
    const StudyProgress progress = finish(study);
    EXPECT_LE(progress.tokens, budget);
    EXPECT_GE(progress.questions.size(), kept) << "more budget, fewer questions";
    if (budget < ScriptedModel::kContextTokens) {
      EXPECT_EQ(model.batches, 0) << "not even the context could be computed";
      EXPECT_EQ(progress.tokens, 0);
    }
    kept = progress.questions.size();
  }
  EXPECT_GT(kept, 10U);
}

TEST(SelfStudyTest, AStudyThatGoesOnEndsAsOneThatNeverStopped) {
  const StudyOptions options{.budget = 9000, .questions = 40};
  ScriptedModel model;
  SelfStudy uninterrupted(model, boats(), options);
  const std::string expected = line_of(finish(uninterrupted), options);
  const TemporaryFolder folder;
  const StudyKey key{.model = hash_of("model"), .system = hash_of("boats"), .options = options};
  std::string line;
  // Every run is stopped after a few steps, wherever that is.
  for (int steps = 1; line.empty(); ++steps) {
    ASSERT_LT(steps, 100);
    StudyJournal journal = StudyJournal::open(folder / "state.jsonl", key).value();
    EXPECT_EQ(journal.problem(), "");
    ScriptedModel again;
    SelfStudy study(again, boats(), options, journal.progress());
    for (int i = 0; i < steps && !study.progress().finished; ++i) {
      const auto round = study.advance().value();
      const bool kept = !round || journal.append(*round).has_value();
      ASSERT_TRUE(kept);
    }
    if (study.progress().finished) line = line_of(study.progress(), options);
  }
  EXPECT_EQ(line, expected);
}

class StudyJournalTest : public testing::Test {
 protected:
  StudyJournalTest() {
    StudyJournal journal = open();
    for (int i = 1; i <= 3; ++i) EXPECT_TRUE(journal.append(round(i)));
    text_ = read();
  }
  StudyJournal open() const { return StudyJournal::open(path_, key_).value(); }
  static StudyRound round(int i) {
    StudyRound out{.next = static_cast<std::size_t>(i), .tokens = 10, .turns = 1, .written = 2, .dropped = {{"unsure", 1}}};
    out.questions.push_back({.question = "Who built the boat?",
                             .answers = {"Ann \"the \xE2\x82\xAC\""},
                             .style = "facts",
                             .teacher = {.tokens = {5}, .top = {{{.token = 5, .logprob = -0.5F}}}}});
    return out;
  }
  std::string read() const {
    std::ostringstream out;
    out << std::ifstream(path_).rdbuf();
    return out.str();
  }
  void write(const std::string& text) const { std::ofstream(path_) << text; }

  TemporaryFolder folder_;
  const std::filesystem::path path_ = folder_ / "state.jsonl";
  const StudyKey key_{.model = hash_of("model"), .system = hash_of("text"), .options = {}};
  std::string text_;
};

TEST_F(StudyJournalTest, HoldsWhatWasAppended) {
  const StudyJournal journal = open();
  EXPECT_EQ(journal.progress().rounds, 3U);
  EXPECT_EQ(journal.progress().tokens, 30);
  EXPECT_EQ(journal.progress().dropped.at("unsure"), 3);
  ASSERT_THAT(journal.progress().questions, SizeIs(3));
  EXPECT_EQ(journal.progress().questions[2].answers.front(), "Ann \"the \xE2\x82\xAC\"");
  EXPECT_EQ(journal.progress().questions[2].teacher.top[0][0].logprob, -0.5F);
}

TEST_F(StudyJournalTest, ALineThatWasNotFinishedIsCutOff) {
  for (const std::size_t cut : {std::size_t{1}, std::size_t{40}}) {
    write(text_.substr(0, text_.size() - cut));
    StudyJournal journal = open();
    EXPECT_EQ(journal.progress().rounds, 2U);
    EXPECT_EQ(journal.problem(), "");
    ASSERT_TRUE(journal.append(round(3)));
    EXPECT_EQ(read(), text_) << "as if it had never been cut";
  }
}

TEST_F(StudyJournalTest, DamageBeginsTheStudyAgainAndIsReported) {
  std::vector<std::string> damaged{"", "\n", "garbage\n", std::string(100, '\0') + "\n", text_ + "{}\n", text_ + "\n"};
  std::string flipped = text_;
  flipped[text_.find("boat")] = 'c';
  damaged.push_back(flipped);
  std::string digit = text_;
  digit[text_.find("\"tokens\":10") + 10] = '9';
  damaged.push_back(digit);
  damaged.push_back(text_.substr(text_.find('\n') + 1));
  for (const std::string& text : damaged) {
    write(text);
    const StudyJournal journal = open();
    EXPECT_EQ(journal.progress().rounds, 0U) << text;
    EXPECT_EQ(journal.problem().empty(), text.empty()) << "an empty file is that of a process killed at once";
    EXPECT_EQ(open().problem(), "") << "it is sound again";
  }
}

TEST_F(StudyJournalTest, TheStateOfAnotherStudyIsNotUsed) {
  for (const StudyKey& other : {StudyKey{hash_of("other"), key_.system, {}}, StudyKey{key_.model, hash_of("other"), {}},
                                StudyKey{key_.model, key_.system, {.seed = 2}}}) {
    write(text_);
    const StudyJournal journal = StudyJournal::open(path_, other).value();
    EXPECT_EQ(journal.progress().rounds, 0U);
    EXPECT_THAT(journal.problem(), HasSubstr("another study"));
  }
}

}  // namespace
}  // namespace celslm
