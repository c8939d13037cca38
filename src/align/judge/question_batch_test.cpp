#include "align/judge/question_batch.h"

#include "align/fit/test_support.h"
#include "align/judge/context_decoder.h"

namespace celslm {
namespace {

using testing_support::TemporaryFolder;
using testing_support::TestModel;
using testing_support::write_random_model;

class QuestionBatchTest : public testing::Test {
 protected:
  QuestionBatchTest() {
    write_random_model(folder_ / "model.gguf", {.n_layers = 2});
    model_ = std::make_unique<TestModel>(folder_ / "model.gguf");
    context_ = compute_kv(*model_->engine, tokens("the boat carries a letter to another harbour")).value().segment;
  }
  std::vector<Token> tokens(const std::string& text) const { return model_->model->text().tokenize(text, false, false); }
  std::vector<AskedQuestion> some_questions() const {
    return {{tokens("where is it?"), tokens("harbour")},
            {tokens("who?"), tokens("it")},
            {tokens("what does the boat carry to another harbour"), {}}};
  }
  std::vector<AnsweredQuestion> answer(std::span<const AskedQuestion> questions, int limit = 8) {
    return answer_questions(*model_->engine, context_, questions, limit).value();
  }

  TemporaryFolder folder_;
  std::unique_ptr<TestModel> model_;
  std::shared_ptr<const KvSegment> context_;
};

TEST_F(QuestionBatchTest, QuestionsAskedTogetherAreAnsweredAsEachAlone) {
  const auto questions = some_questions();
  const auto together = answer(questions);
  ASSERT_EQ(together.size(), questions.size());
  ContextDecoder decoder(*model_->engine);
  for (std::size_t i = 0; i < questions.size(); ++i) {
    auto alone = decoder.greedy(context_, questions[i].prompt, 8).value();
    if (model_->model->text().ends_generation(alone.back())) alone.pop_back();
    EXPECT_EQ(together[i].reply, alone);
    EXPECT_FALSE(alone.empty());
  }
}

TEST_F(QuestionBatchTest, ProbabilityOfTheCorrectAnswerIsThatOfItsTokensOneAfterTheOther) {
  const auto questions = some_questions();
  const auto answers = answer(questions);
  ContextDecoder decoder(*model_->engine);
  const auto width = static_cast<std::size_t>(model_->model->config().n_vocab);
  for (std::size_t i = 0; i < questions.size(); ++i) {
    auto forced = questions[i].prompt;
    forced.insert(forced.end(), questions[i].gold.begin(), questions[i].gold.end());
    const auto logits = decoder.forced_logits(context_, forced).value();
    double log_p = 0.0;
    for (std::size_t k = 0; k < questions[i].gold.size(); ++k) {
      const std::size_t row = questions[i].prompt.size() - 1 + k;
      log_p -= negative_log_likelihood(std::span(logits).subspan(row * width, width), questions[i].gold[k]);
    }
    EXPECT_NEAR(answers[i].gold_log_p, log_p, 1e-4);
  }
  EXPECT_LT(answers[0].gold_log_p, 0.0);
  EXPECT_EQ(answers[2].gold_log_p, 0.0) << "no correct answer was given";
}

TEST_F(QuestionBatchTest, MoreQuestionsThanOneStepTakesAreAllAnswered) {
  std::vector<AskedQuestion> many;
  while (many.size() * some_questions()[2].prompt.size() < 3 * kPrefillStep) many.push_back(some_questions()[2]);
  const auto answers = answer(many, 2);
  ASSERT_EQ(answers.size(), many.size());
  for (const AnsweredQuestion& one : answers) EXPECT_EQ(one.reply, answers.front().reply);
  EXPECT_EQ(answers.front().reply.size(), 2U);
}

TEST_F(QuestionBatchTest, WithoutAContextPromptsBeginAtPositionZero) {
  const auto prompt = some_questions()[0].prompt;
  const auto closed = answer_questions(*model_->engine, nullptr, {{AskedQuestion{prompt, {}}}}, 4).value();
  const auto empty = KvSegment::create(model_->model->config(), KvType::kF16, 0, 1).value();
  const auto expected = ContextDecoder(*model_->engine).greedy(empty, prompt, 4).value();
  EXPECT_EQ(closed[0].reply, expected);
}

TEST_F(QuestionBatchTest, AQuestionWithoutTokensIsRefused) {
  const auto refused = answer_questions(*model_->engine, context_, {{AskedQuestion{}}}, 4);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace celslm
