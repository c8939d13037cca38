#include "model/constraint/constraint_host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <nlohmann/json.hpp>
#include <random>

#include "model/constraint/constrained_choice.h"
#include "model/grammar/json_schema.h"
#include "tests/support/vocabulary_suite.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr auto kPatience = 60s;

class ConstraintHostTest : public testing_support::VocabularySuite {
 protected:
  ConstraintHostTest()
      : host_({.command = {CELSLM_CONSTRAINT_HOST, model_file().string()}, .most = 4}, clock_, null_log()) {}

  Result<std::unique_ptr<Constraint>> make(const std::string& grammar) {
    return host_.make({.text = grammar}, [this] { ++n_told_; });
  }
  std::unique_ptr<Constraint> made(const std::string& grammar) { return make(grammar).value(); }
  static Result<Verdict> answer(Constraint& constraint) {
    constraint.wait(kPatience);
    auto out = constraint.take_answer();
    return out ? *out : fail(ErrorKind::kInternal, "no answer");
  }
  static Result<Verdict> offer(Constraint& constraint, char byte) {
    constraint.offer(text_->tokenize(std::string(1, byte), false, false).front());
    return answer(constraint);
  }
  // The error that this grammar ends with: when it is compiled, or at one of these bytes.
  Error end_of(const std::string& grammar, std::string_view bytes = "aaaaaaaa") {
    auto constraint = make(grammar);
    if (!constraint) return constraint.error();
    for (const char byte : bytes) {
      const auto verdict = offer(**constraint, byte);
      if (!verdict) return verdict.error();
    }
    return {ErrorKind::kInternal, "it did not end"};
  }
  // Whether others are served.
  bool works() {
    auto constraint = make(R"(root ::= "ok")");
    return constraint && offer(**constraint, 'o').value().accepted;
  }
  Sampler sampler(const SamplerOptions& options) const { return Sampler::create(*text_, options).value(); }

  std::vector<float> logits(unsigned seed) const {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0F, 3.0F);
    std::vector<float> out(static_cast<std::size_t>(text_->n_vocab()));
    for (float& x : out) x = normal(random);
    return out;
  }
  Result<Sampled> choose(ConstrainedChoice& choice, std::span<const float> row) const {
    choice.begin(row, 0);
    for (;;) {
      choice.wait_briefly(kPatience);
      if (auto out = choice.poll()) return *out;
    }
  }
  std::string generate(const GrammarSpec& grammar, unsigned seed, int limit, float end_bias) {
    ConstrainedChoice choice(*text_, sampler({.temperature = 1.0F, .seed = seed}), *host_.make(grammar, [] {}),
                             grammar.triggers);
    std::string out;
    for (int i = 0; i < limit; ++i) {
      auto row = logits(seed * 1000 + static_cast<unsigned>(i));
      row.back() += end_bias;  // "<|im_end|>"
      const Token token = choose(choice, row).value().token;
      if (text_->ends_generation(token)) return out;
      out += text_->piece(token);
    }
    return out;
  }

  const SystemClock clock_;
  std::atomic<int> n_told_{0};
  ConstraintHost host_;
};

TEST_F(ConstraintHostTest, AnswersWithTheTokensThatAreAllowed) {
  const auto constraint = made(R"(root ::= "ab" | "ac")");
  EXPECT_TRUE(offer(*constraint, 'a').value().accepted);
  const Verdict refused = offer(*constraint, 'x').value();
  EXPECT_FALSE(refused.accepted);
  EXPECT_TRUE(refused.allowed.has('b') && refused.allowed.has('c'));
  EXPECT_FALSE(refused.allowed.has('a'));
  EXPECT_TRUE(offer(*constraint, 'c').value().accepted);
  EXPECT_TRUE(offer(*constraint, 'c').value().allowed.has(end_token(*text_)));
}

TEST_F(ConstraintHostTest, ATextIsAcceptedInFullOrNotAtAll) {
  const auto constraint = made(R"(root ::= "<call>" [0-9]+ "</call>")");
  constraint->begin("<call>x");
  EXPECT_FALSE(answer(*constraint).value().accepted);
  constraint->begin("<call>12");
  EXPECT_TRUE(answer(*constraint).value().accepted);
  EXPECT_TRUE(offer(*constraint, '3').value().accepted);
}

TEST_F(ConstraintHostTest, TellsWhoWaitsElsewhere) {
  const auto constraint = made(R"(root ::= "a")");
  constraint->offer('a');
  for (int i = 0; i < 600 && n_told_ == 0; ++i) std::this_thread::sleep_for(100ms);  // a thread of the host's
  EXPECT_EQ(n_told_, 1);
  EXPECT_TRUE(constraint->take_answer().value().value().accepted);
}

TEST_F(ConstraintHostTest, WhatDoesNotParseIsRefusedWithTheReason) {
  const std::string deep = "root ::= " + std::string(100'000, '(') + std::string(100'000, ')');
  for (const std::string& grammar :
       {std::string("root ::= missing"), std::string("other ::= \"a\""), std::string("root ::= root \"a\""),
        std::string("root ::= \"a"), deep, std::string("root ::= \"a\"{")}) {
    EXPECT_EQ(end_of(grammar).kind, ErrorKind::kInvalid) << grammar.substr(0, 60);
  }
  EXPECT_THAT(end_of("root ::= \"a").message, HasSubstr("unexpected end of input"));
  EXPECT_TRUE(works());
}

// Each of these ended, stalled or swelled the process that ran it.
TEST_F(ConstraintHostTest, NoGrammarHarmsMoreThanItself) {
  std::string doubling = "root ::= \"a\" r0\n";
  for (int i = 0; i < 24; ++i) doubling += fmt::format("r{} ::= r{} r{}\n", i, i + 1, i + 1);
  std::string many = "root ::= ";
  for (int i = 0; i < 500; ++i) many += "\"a\"? ";
  std::string nested = "[a-c]?";
  for (int level = 0; level < 6; ++level) {
    std::string next = "(";
    for (int i = 0; i < 8; ++i) next += nested.size() < 3000 ? nested + "* " : "[a-c]? ";
    nested = next + ")";
  }
  const std::vector<std::string> grammars{R"(root ::= "a" !<[65]>)",
                                          R"(root ::= [a] !<[65]>)",
                                          R"(root ::= "a"{2,1})",
                                          R"(root ::= "a"{100000000})",
                                          R"(root ::= ("a"{1000}){1000}{1000})",
                                          doubling + "r24 ::= \"\"\n",
                                          many,
                                          "root ::= " + nested + "*"};
  for (const std::string& grammar : grammars) {
    const auto before = clock_.now();
    const Error error = end_of(grammar);
    EXPECT_THAT(error.kind, testing::AnyOf(ErrorKind::kInvalid, ErrorKind::kInternal)) << error.message;
    RecordProperty("ended", error.message);
    EXPECT_LT(clock_.now() - before, 300s) << grammar.substr(0, 60);  // not for ever, however busy the machine
    EXPECT_TRUE(works()) << grammar.substr(0, 60);
  }
}

TEST_F(ConstraintHostTest, AHostThatHasDiedIsReplaced) {
  const auto constraint = made(R"(root ::= "ab")");
  ::kill(host_.process(), SIGKILL);
  const auto lost = offer(*constraint, 'a');  // its children end with it
  if (!lost) {
    EXPECT_EQ(lost.error().kind, ErrorKind::kUnavailable);
  }
  EXPECT_TRUE(works());
}

TEST_F(ConstraintHostTest, AHostThatCannotStartIsAnErrorAndNoHang) {
  ConstraintHost none({.command = {"/nonexistent"}}, clock_, null_log());
  EXPECT_EQ(none.make({.text = "root ::= \"a\""}, [] {}).error().kind, ErrorKind::kUnavailable);
  ConstraintHost no_model({.command = {CELSLM_CONSTRAINT_HOST, "/nonexistent.gguf"}}, clock_, null_log());
  EXPECT_EQ(no_model.make({.text = "root ::= \"a\""}, [] {}).error().kind, ErrorKind::kUnavailable);
}

TEST_F(ConstraintHostTest, ThereIsAMostOfThem) {
  std::vector<std::unique_ptr<Constraint>> four;
  for (int i = 0; i < 4; ++i) four.push_back(made(R"(root ::= "a")"));
  EXPECT_EQ(make(R"(root ::= "a")").error().kind, ErrorKind::kOverloaded);
  four.pop_back();
  EXPECT_TRUE(make(R"(root ::= "a")"));
}

TEST_F(ConstraintHostTest, JsonModeGivesAnObjectWhateverTheLogits) {
  const GrammarSpec any_object{.text = GrammarBuilder().text(GrammarBuilder::kAnyObject).value()};
  int complete = 0;
  for (unsigned seed = 0; seed < 10; ++seed) {
    const std::string out = generate(any_object, seed, 400, 6.0F);
    EXPECT_TRUE(out.starts_with("{")) << out;
    complete += nlohmann::json::accept(out) ? 1 : 0;
  }
  EXPECT_GT(complete, 0);  // others end at the limit, in the middle of a string
}

TEST_F(ConstraintHostTest, AGrammarAllowsNothingElse) {
  const GrammarSpec grammar{.text = R"(root ::= ("yes" | "no") "!")"};
  for (unsigned seed = 0; seed < 5; ++seed) EXPECT_THAT(generate(grammar, seed, 20, 0.0F), testing::AnyOf("yes!", "no!"));
}

TEST_F(ConstraintHostTest, AFinishedGrammarKeepsEnding) {
  ConstrainedChoice choice(*text_, sampler({}), made(R"(root ::= "a")"), {});
  EXPECT_EQ(text_->piece(choose(choice, logits(1)).value().token), "a");
  for (unsigned i = 0; i < 5; ++i) EXPECT_TRUE(text_->ends_generation(choose(choice, logits(i)).value().token));
}

// Anything may come before "#"; behind it only digits, and then the end.
TEST_F(ConstraintHostTest, ATriggerBeginsTheGrammarWithinAnAnswer) {
  int triggered = 0;
  for (unsigned seed = 0; seed < 10; ++seed) {
    const std::string out = generate({.text = R"(root ::= "#" [0-9] [0-9] [0-9])", .triggers = {"#"}}, seed, 600, -100.0F);
    const std::size_t at = out.find('#');
    if (at == std::string::npos) continue;
    ++triggered;
    EXPECT_EQ(out.substr(at + 1).find_first_not_of("0123456789"), std::string::npos) << out;
  }
  EXPECT_GT(triggered, 0);
}

}  // namespace
}  // namespace celslm
