#include "align/study/sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "align/study/prompts.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::SizeIs;
using testing_support::TemporaryFolder;

class StudySourcesTest : public testing::Test {
 protected:
  std::filesystem::path written(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
  TemporaryFolder folder_;
};

TEST_F(StudySourcesTest, ATextIsTheContextThatBenchQualityMakesOfIt) {
  const StudyText text = read_study_text(written("a.txt", "Boats.\n")).value();
  EXPECT_EQ(text.id, "a.txt");
  EXPECT_EQ(text.system_message(), "Use the text below to answer the user's questions.\n\nBoats.\n");
  for (const std::string& bad : {std::string(), std::string(" \n"), std::string("\xFF"), std::string("a\0b", 3)})
    EXPECT_THAT(read_study_text(written("bad.txt", bad)).error().message, HasSubstr("bad.txt")) << bad;
}

TEST_F(StudySourcesTest, OfAFileOfQuestionsTheContextsAreRead) {
  const auto path = written(
      "q.jsonl", "{\"id\": 7, \"context\": \"Boats.\"}\n\n{\"context\": \"Boats.\", \"system\": \"You know boats.\"}\n");
  auto texts = read_study_contexts(path).value();
  ASSERT_THAT(texts, SizeIs(2));
  EXPECT_EQ(texts[0].id, "7");
  EXPECT_EQ(texts[1].id, "q-3");
  EXPECT_EQ(texts[1].system_message(), "You know boats.");
  texts[1].id = "7";
  make_unique({&texts[0], &texts[1]});
  EXPECT_EQ(texts[1].id, "7#2");
}

TEST_F(StudySourcesTest, QuestionsAreAskedAsBenchQualityAsksThem) {
  const auto path =
      written("q.jsonl", R"({"metric":"squad_em_f1","context":"x","questions":[{"q":"What?","answers":["a","b"]}]}
{"metric":"multiple_choice","context":"x","questions":[{"q":"What?","answers":["B"],"choices":["one","two"]}]}
{"metric":"squad_em_f1","plain":true,"context":"x","questions":[{"q":"What?","answers":["a"]}]}
)");
  const auto lines = read_questions(path).value();
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_EQ(lines[0].questions[0].prompt, "What?\nAnswer with a few words only, no explanation.");
  EXPECT_EQ(lines[0].questions[0].gold, "a");
  EXPECT_EQ(lines[1].questions[0].prompt,
            "What?\nA) one\nB) two\nAnswer with the letter only.\nAnswer with a few words only, no explanation.");
  EXPECT_EQ(lines[2].questions[0].prompt, "What?");
}

TEST_F(StudySourcesTest, BulletinsAreAskedAsTheDemoFamilyWasTrained) {
  const auto path = written("w.json", R"({"worlds":[{"context":"Parcel Ek is in crate Oak.","questions":[
      {"question":"Which crate holds parcel Ek?","answer":"Oak","reply":"Parcel Ek is in crate Oak."}]}]})");
  EXPECT_EQ(read_study_contexts(path).value()[0].system_message(), "Parcel Ek is in crate Oak.");
  const auto lines = read_questions(path).value();
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_EQ(lines[0].questions[0].prompt, "Which crate holds parcel Ek?");
  EXPECT_EQ(lines[0].questions[0].gold, "Parcel Ek is in crate Oak.");
}

TEST_F(StudySourcesTest, MalformedFilesAreRefusedWithTheLine) {
  for (const char* line : {"[]", "{", "{}", R"({"context":7})", R"({"context":""})", R"({"context":"x","questions":{}})"}) {
    const auto path =
        written("q.jsonl", std::string("{\"context\":\"x\",\"metric\":\"m\",\"questions\":[]}\n") + line + "\n");
    EXPECT_THAT(read_questions(path).error().message, HasSubstr("q.jsonl:2")) << line;
  }
  for (const char* question : {"7", "{}", R"({"q":"x"})", R"({"q":"x","answers":[]})", R"({"q":"x","answers":[""]})"}) {
    const auto path = written("q.jsonl", std::string(R"({"context":"x","metric":"m","questions":[)") + question + "]}\n");
    EXPECT_FALSE(read_questions(path)) << question;
  }
  EXPECT_THAT(read_study_contexts(written("w.json", "{}")).error().message, HasSubstr("w.json"));
  EXPECT_EQ(read_questions(folder_ / "none.jsonl").error().kind, ErrorKind::kNotFound);
}

TEST_F(StudySourcesTest, AnAnnotatedLineKeepsEverythingElse) {
  const auto path =
      written("q.jsonl", R"({"x":1,"id":"i","metric":"m","context":"c","questions":[{"q":"What?","answers":["a"],"y":2}]})");
  const auto line = read_questions(path).value().front();
  const Teacher teacher{.tokens = {5}, .top = {{{.token = 5, .logprob = -0.123456F}}}};
  const json out = json::parse(annotated_line(line, {teacher}, 40, hash_of("model")));
  EXPECT_EQ(out["x"], 1);
  EXPECT_EQ(out["questions"][0]["y"], 2);
  EXPECT_EQ(out["questions"][0]["teacher"].dump(), R"({"tokens":[5],"top":[[[5,-0.1235]]]})");
  EXPECT_EQ(out["study"]["tokens"], 40);
}

}  // namespace
}  // namespace celslm
