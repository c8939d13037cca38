// Answers with grammars in the batch.
#include <gmock/gmock.h>

#include "serve/batch/batch_loop.h"
#include "serve/batch/batch_test_support.h"
#include "serve/batch/scheduler.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing_support::Answer;
using testing_support::collect;
using testing_support::kForever;
using testing_support::request;
using testing_support::some_tokens;

// What a test lets a grammar answer.
struct Script {
  bool answers = false;
  std::optional<Token> only;  // the one token that it allows; else all
  std::optional<Error> error;
  int n_offered = 0;
  bool destroyed = false;
};

class ScriptedConstraint final : public Constraint {
 public:
  ScriptedConstraint(Script& script, int n_vocab) : script_(script), n_vocab_(n_vocab) {}
  ~ScriptedConstraint() override { script_.destroyed = true; }
  void offer(Token token) override {
    offered_ = token;
    ++script_.n_offered;
  }
  void begin(const std::string&) override {}
  std::optional<Result<Verdict>> take_answer() override {
    if (!script_.answers || !offered_) return std::nullopt;
    const Token token = *std::exchange(offered_, std::nullopt);
    if (script_.error) return std::unexpected(*script_.error);
    if (!script_.only || token == *script_.only) return Verdict{.accepted = true};
    Verdict out{.allowed = TokenMask(n_vocab_)};
    out.allowed.add(*script_.only);
    return out;
  }
  void wait(Duration) override {}

 private:
  Script& script_;
  const int n_vocab_;
  std::optional<Token> offered_;
};

class ScriptedMaker final : public ConstraintMaker {
 public:
  ScriptedMaker(Script& script, int n_vocab) : script_(script), n_vocab_(n_vocab) {}
  Result<std::unique_ptr<Constraint>> make(const GrammarSpec& grammar, std::function<void()>) override {
    if (grammar.text == "bad") return fail(ErrorKind::kInvalid, "the grammar does not parse");
    return std::make_unique<ScriptedConstraint>(script_, n_vocab_);
  }

 private:
  Script& script_;
  const int n_vocab_;
};

class GrammarBatchTest : public testing_support::BatchFixture {
 protected:
  GrammarBatchTest() : engine_(engine()), scheduler_(*engine_, clock_, {}, null_log()) {}

  std::shared_ptr<Generation> add(TokenChoice choice, int max_tokens) {
    auto generation =
        std::make_shared<Generation>(request(some_tokens(8, 1), max_tokens), std::make_shared<PieceQueue>(clock_));
    scheduler_.add(std::make_unique<Sequence>(generation, std::move(choice), n_added_++, clock_.now()));
    return generation;
  }
  std::shared_ptr<Generation> add_plain(int max_tokens) { return add(sampler(), max_tokens); }
  std::shared_ptr<Generation> add_with_grammar(int max_tokens) {
    return add(
        TokenChoice(std::in_place_type<ConstrainedChoice>, model_->text(), sampler(),
                    std::make_unique<ScriptedConstraint>(script_, model_->text().n_vocab()), std::vector<std::string>{}),
        max_tokens);
  }
  Answer run(Generation& generation, int most_steps) {
    Answer out;
    for (int i = 0; i < most_steps && !out.reason && !out.error; ++i) {
      scheduler_.admit();
      scheduler_.step();
      collect(generation, out, 0s);
    }
    return out;
  }

  Sampler sampler() const { return Sampler::create(model_->text(), {}).value(); }
  Script script_;
  const std::unique_ptr<Engine> engine_;
  Scheduler scheduler_;
  std::uint64_t n_added_ = 0;
};

TEST_F(GrammarBatchTest, AGrammarThatThinksHoldsUpNobodyElse) {
  const auto slow = add_with_grammar(3);
  const auto plain = add_plain(20);
  EXPECT_TRUE(run(*plain, 50).reason);
  EXPECT_FALSE(run(*slow, 5).reason);
  EXPECT_EQ(script_.n_offered, 1);
  script_.answers = true;
  EXPECT_EQ(run(*slow, 50).usage.completion_tokens, 3);
}

TEST_F(GrammarBatchTest, WhatAGrammarAllowsIsWhatTheAnswerHolds) {
  script_ = {.answers = true, .only = 'x'};
  const auto generation = add_with_grammar(4);
  const std::string piece = model_->text().piece(*script_.only);
  EXPECT_EQ(run(*generation, 50).text, piece + piece + piece + piece);
}

TEST_F(GrammarBatchTest, WhereAGrammarAllowsAllTheAnswerIsTheSame) {
  script_.answers = true;
  const auto plain = add_plain(12);
  const std::string text = run(*plain, 50).text;
  const auto constrained = add_with_grammar(12);
  EXPECT_EQ(run(*constrained, 50).text, text);
}

TEST_F(GrammarBatchTest, AGrammarThatFailsEndsItsAnswerOnly) {
  const auto plain = add_plain(20);
  script_ = {.answers = true, .error = Error{ErrorKind::kInvalid, "too slow"}};
  const Answer failed = run(*add_with_grammar(3), 10);
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->message, "too slow");
  EXPECT_TRUE(run(*plain, 50).reason);
  EXPECT_TRUE(script_.destroyed);
}

TEST_F(GrammarBatchTest, ACancelledAnswerEndsItsGrammar) {
  const auto generation = add_with_grammar(3);
  run(*generation, 3);
  generation->cancel();
  EXPECT_EQ(run(*generation, 1).reason, FinishReason::kCancelled);
  EXPECT_TRUE(script_.destroyed);
}

TEST_F(GrammarBatchTest, TheLoopRefusesGrammarsThatCannotBeUsed) {
  const auto maker = std::make_shared<ScriptedMaker>(script_, model_->text().n_vocab());
  BatchLoop with(engine(), clock_, {}, null_log(), maker);
  BatchLoop without(engine(), clock_, {}, null_log());
  auto bad = request(some_tokens(8, 1), 2);
  bad.sampler.grammar.text = "bad";
  EXPECT_EQ(with.submit(bad).error().message, "the grammar does not parse");
  EXPECT_EQ(without.submit(bad).error().kind, ErrorKind::kInvalid);
  script_.answers = true;
  auto good = request(some_tokens(8, 1), 2);
  good.sampler.grammar.text = "good";
  Answer answer;
  collect(**with.submit(good), answer, kForever);
  EXPECT_EQ(answer.usage.completion_tokens, 2);
}

}  // namespace
}  // namespace celslm
