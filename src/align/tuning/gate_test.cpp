#include "align/tuning/gate.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/random_model.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::TemporaryFolder;

Tuning some_tuning() {
  Tuning out{.model = hash_of("small"), .teacher = "Large", .corpus = "two manuals"};
  out.constants = {.n_layers = 1, .kv_width = 2, .k = {0.5F, 1.0F}, .v = {0.0F, -1.0F}};
  out.constants.id = tuning_id(out);
  return out;
}

json change(double own, double tuned, double low, double high) {
  return {{"own", own}, {"tuned", tuned}, {"interval", {low, high}}};
}

// One that passes, of some_tuning().
json good_gate() {
  return {{"version", 1},
          {"state", "passed"},
          {"tuning", some_tuning().constants.id.hex()},
          {"model", hash_of("small").hex()},
          {"documents", 20},
          {"questions", 100},
          {"f1", change(0.30, 0.40, 0.05, 0.15)},
          {"contains", change(0.35, 0.36, -0.01, 0.03)},
          {"sets",
           {{{"set", "a"},
             {"questions", 75},
             {"f1", change(0.30, 0.42, 0.08, 0.16)},
             {"contains", change(0.35, 0.36, -0.01, 0.03)}},
            {{"set", "b"},
             {"questions", 25},
             {"f1", change(0.30, 0.34, -0.02, 0.10)},
             {"contains", change(0.35, 0.36, -0.01, 0.03)}}}},
          {"plain_text", {{"documents", 40}, {"log_p", change(-3.0, -3.01, -0.03, 0.01)}}}};
}

std::string problem(const json& gate) {
  const auto parsed = parse_gate(gate.dump());
  return parsed ? "none" : parsed.error().message;
}

// A gate that says itself that it was refused.
std::string why_refused(json gate) {
  gate["state"] = "refused";
  const auto parsed = parse_gate(gate.dump());
  return parsed ? refusal(*parsed) : "not accepted: " + parsed.error().message;
}

TEST(TuningGateTest, PassesWhatIsBetterAndNowhereWorse) {
  const auto gate = parse_gate(good_gate().dump());
  ASSERT_TRUE(gate) << gate.error().message;
  EXPECT_EQ(refusal(*gate), "");
  const std::string text = describe(*gate);
  for (const char* part : {"gate: passed", "100 questions about 20 documents", "F1, b (25)", "+10.00 [+5.00, +15.00] %",
                           "contains the answer", "-0.0100 [-0.0300, +0.0100]"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST(TuningGateTest, RefusesWhatIsNotBetterOrWorseSomewhere) {
  json gate = good_gate();
  gate["f1"]["interval"][0] = 0.0;
  EXPECT_THAT(why_refused(gate), HasSubstr("F1 is not better with certainty"));
  gate = good_gate();
  gate["sets"][1]["f1"]["interval"] = {-0.04, -0.001};
  EXPECT_THAT(why_refused(gate), HasSubstr("'b' is significantly worse"));
  gate = good_gate();
  gate["plain_text"]["log_p"]["interval"] = {-0.03, -0.001};
  EXPECT_THAT(why_refused(gate), HasSubstr("plain text is significantly less likely"));
  gate = good_gate();
  gate["documents"] = kLeastGateDocuments - 1;
  EXPECT_THAT(why_refused(gate), HasSubstr("9 documents"));
}

TEST(TuningGateTest, TheStateIsWhatTheFiguresGive) {
  json gate = good_gate();
  gate["f1"]["interval"][0] = -0.01;
  EXPECT_THAT(problem(gate), HasSubstr("state is 'passed', but its figures give 'refused'"));
  gate = good_gate();
  gate["state"] = "refused";
  EXPECT_THAT(problem(gate), HasSubstr("state is 'refused', but its figures give 'passed'"));
}

TEST(TuningGateTest, FiguresThatContradictEachOtherAreRefusedByName) {
  const auto expect = [](const char* words, const std::function<void(json&)>& edit) {
    json gate = good_gate();
    edit(gate);
    EXPECT_THAT(problem(gate), HasSubstr(words));
  };
  expect("sets have 75 questions together, the gate has 100", [](json& g) { g["sets"].erase(1); });
  expect("f1 is 0.3 and 0.5, but the sets' are 0.3 and 0.4", [](json& g) { g["f1"]["tuned"] = 0.5; });
  expect("'f1.interval'", [](json& g) { g["f1"]["interval"] = {0.2, 0.1}; });
  expect("'f1.interval'", [](json& g) { g["f1"]["interval"] = {0.2}; });
  expect("'contains.interval'", [](json& g) { g["contains"]["interval"] = {0.2, "x"}; });
  expect("'f1.own'", [](json& g) { g["f1"]["own"] = 1.5; });
  expect("'plain_text.log_p.own'", [](json& g) { g["plain_text"]["log_p"]["own"] = 0.5; });
  expect("'plain_text'", [](json& g) { g.erase("plain_text"); });
  expect("'sets[].contains'", [](json& g) { g["sets"][0].erase("contains"); });
  expect("version 2", [](json& g) { g["version"] = 2; });
  expect("'tuning'", [](json& g) { g["tuning"] = "x"; });
  expect("'questions'", [](json& g) { g["questions"] = 0; });
  EXPECT_THAT(parse_gate("[]").error().message, testing::Not(testing::IsEmpty()));
  EXPECT_THAT(parse_gate(std::string(kMaxGateBytes + 1, ' ')).error().message, HasSubstr("at most"));
}

TEST(TuningGateTest, IsOfOneTuningOnly) {
  Tuning tuning = some_tuning();
  ASSERT_TRUE(judge_tuning(tuning, good_gate().dump(2)));
  EXPECT_NE(tuning.constants.id, some_tuning().constants.id) << "another gate, another tuning";
  EXPECT_EQ(unjudged_id(tuning), some_tuning().constants.id);
  EXPECT_TRUE(judge_tuning(tuning, good_gate().dump())) << "again";
  Tuning other = some_tuning();
  other.constants.k[0] += 1.0F;
  const Status judged = judge_tuning(other, good_gate().dump());
  EXPECT_EQ(judged.error().kind, ErrorKind::kMismatch);
  EXPECT_THAT(judged.error().message, HasSubstr("the gate is of the tuning"));
}

TEST(TuningGateTest, OnlyWhatPassedAndIsSignedIsServed) {
  const TemporaryFolder folder;
  const auto path = folder / "t.tuning";
  const auto served = [&](const Tuning& tuning) {
    EXPECT_TRUE(write_tuning(path, tuning));
    const auto read = read_servable_tuning(path);
    return read ? std::string("served") : read.error().message;
  };
  Tuning tuning = some_tuning();
  EXPECT_THAT(served(tuning), HasSubstr("was not judged"));
  ASSERT_TRUE(judge_tuning(tuning, good_gate().dump()));
  EXPECT_THAT(served(tuning), HasSubstr("nobody signed it"));
  sign_tuning(tuning, SigningKey::generate().value());
  EXPECT_EQ(served(tuning), "served");

  json bad = good_gate();
  bad["state"] = "refused";
  bad["f1"]["interval"][0] = -0.01;
  ASSERT_TRUE(judge_tuning(tuning, bad.dump()));
  sign_tuning(tuning, SigningKey::generate().value());
  EXPECT_THAT(served(tuning), testing::AllOf(HasSubstr(path.string()), HasSubstr("its gate refused it")));
}

}  // namespace
}  // namespace celslm
