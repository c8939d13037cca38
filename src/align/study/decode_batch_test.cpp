#include "align/study/decode_batch.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "align/fit/test_support.h"
#include "align/judge/context_decoder.h"
#include "align/study/study_engine.h"
#include "model/engine/prefill.h"
#include "model/numeric/logits.h"

namespace celslm {
namespace {

using testing::ElementsAre;
using testing_support::TemporaryFolder;
using testing_support::TestModel;
using testing_support::write_random_model;

class DecodeBatchTest : public testing::Test {
 protected:
  DecodeBatchTest() {
    write_random_model(folder_ / "model.gguf", {.n_layers = 2});
    model_ = std::make_unique<TestModel>(folder_ / "model.gguf");
    const auto context = tokens("the boat carries a letter to another harbour");
    segment_ = KvSegment::create(config(), KvType::kF16, 0, static_cast<int>(context.size()) + 16).value();
    auto prefill = ContextPrefill::start(*model_->engine, context, segment_).value();
    while (!prefill.finished()) EXPECT_TRUE(prefill.advance());
  }
  const ModelConfig& config() const { return model_->model->config(); }
  std::vector<Token> tokens(const std::string& text) const { return model_->model->text().tokenize(text, false, false); }
  std::vector<std::vector<DecodedReply>> decoded(const std::vector<DecodeTurn>& turns) {
    DecodeBatch batch(*model_->engine, segment_, turns);
    while (!batch.step().value()) {
    }
    tokens_ = batch.tokens();
    return batch.take();
  }
  std::vector<Token> alone(const std::vector<Token>& prompt, int limit) {
    return ContextDecoder(*model_->engine).greedy(segment_, prompt, limit).value();
  }

  TemporaryFolder folder_;
  std::unique_ptr<TestModel> model_;
  std::shared_ptr<KvSegment> segment_;
  std::int64_t tokens_ = 0;
};

TEST_F(DecodeBatchTest, WhatPromptsShareIsReadOnceAndChangesNothing) {
  const std::string common = "it rained where the letter is and ";
  const std::vector<std::vector<Token>> prompts{tokens(common + "who?"), tokens(common + "where is the boat?"),
                                                tokens(common + "what does it carry?")};
  std::vector<DecodeTurn> turns;
  for (const auto& prompt : prompts) turns.push_back({.prompt = prompt, .continuations = {{}}, .limit = 8});
  const int length = segment_->length();
  const auto replies = decoded(turns);
  std::int64_t read = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(replies[i][0].tokens, alone(prompts[i], 8));
    read += static_cast<std::int64_t>(prompts[i].size() + replies[i][0].tokens.size() - 1);
  }
  EXPECT_EQ(segment_->length(), length);
  EXPECT_LE(tokens_, read - 2 * 10) << "ten of the tokens in common were read once for three prompts";
}

TEST_F(DecodeBatchTest, ContinuationsOfOnePromptDoNotDisturbEachOther) {
  const auto prompt = tokens("where is the boat?");
  const Continuation sampled{.temperature = 1.5F, .seed = 7};
  const auto both = decoded({{.prompt = prompt, .continuations = {{}, sampled, {}}, .limit = 8}});
  ASSERT_EQ(both[0].size(), 3U);
  EXPECT_EQ(both[0][0].tokens, alone(prompt, 8));
  EXPECT_EQ(both[0][2].tokens, both[0][0].tokens);
  EXPECT_NE(both[0][1].tokens, both[0][0].tokens) << "random weights: sampling goes elsewhere";
  EXPECT_EQ(decoded({{.prompt = prompt, .continuations = {sampled}, .limit = 8}})[0][0].tokens, both[0][1].tokens)
      << "the same seed, the same reply";
}

TEST_F(DecodeBatchTest, TheTeachersDistributionsAreThoseOfTeacherForcing) {
  const auto prompt = tokens("where is the boat?");
  const auto forced = tokens("harbour");
  ASSERT_GE(forced.size(), 2U);
  const auto replies = decoded({{.prompt = prompt, .continuations = {{.teacher = true}}, .limit = 1, .forced = forced}});
  const DecodedReply& reply = replies[0][0];
  EXPECT_EQ(reply.tokens, forced);
  auto all = prompt;
  all.insert(all.end(), forced.begin(), forced.end());
  const auto logits = ContextDecoder(*model_->engine).forced_logits(segment_, all).value();
  const auto width = static_cast<std::size_t>(config().n_vocab);
  ASSERT_EQ(reply.top.size(), forced.size());
  for (std::size_t i = 0; i < forced.size(); ++i) {
    const auto row = std::span(logits).subspan((prompt.size() - 1 + i) * width, width);
    ASSERT_EQ(reply.top[i].size(), static_cast<std::size_t>(kTeacherTop));
    for (const TokenLogprob& one : reply.top[i]) EXPECT_NEAR(one.logprob, -negative_log_likelihood(row, one.token), 1e-3);
    EXPECT_EQ(static_cast<std::size_t>(reply.top[i][0].token), argmax(row));
    EXPECT_TRUE(std::ranges::is_sorted(reply.top[i], std::ranges::greater(), &TokenLogprob::logprob));
  }
}

TEST_F(DecodeBatchTest, AStudyBehindTheEngineAnswersAsTheDecoderDoes) {
  auto study = StudyEngine::create(*model_->engine, "the boat carries a letter").value();
  const Turn turn{.user = "where is it?", .continuations = {{.teacher = true}}, .limit = 6};
  EXPECT_EQ(study->most_tokens(turn, true).value(),
            static_cast<std::int64_t>(study->prompt_of(turn.user, true)->size()) + 6);
  for (const bool with_context : {true, false}) {
    auto batch = study->start({{turn, turn}}, with_context).value();
    while (!batch->step().value()) {
    }
    const auto replies = batch->take();
    const auto context = model_->model->text().context("the boat carries a letter").value();
    std::shared_ptr<KvSegment> segment =
        KvSegment::create(config(), KvType::kF16, 0, static_cast<int>(context.size())).value();
    if (with_context) {
      auto prefill = ContextPrefill::start(*model_->engine, context, segment).value();
      while (!prefill.finished()) ASSERT_TRUE(prefill.advance());
    }
    auto expected =
        ContextDecoder(*model_->engine).greedy(segment, study->prompt_of(turn.user, with_context).value(), 6).value();
    EXPECT_EQ(replies[1][0].teacher.tokens, expected);
    if (model_->model->text().ends_generation(expected.back())) expected.pop_back();
    EXPECT_EQ(replies[0][0].text, model_->model->text().detokenize(expected));
  }
}

TEST(TopLogProbsTest, AreTheLargestInOrder) {
  const std::vector<float> logits{0.0F, 3.0F, 1.0F, 3.0F, -2.0F, 2.0F};
  std::vector<Token> order;
  for (const TokenLogprob& one : top_log_probs(logits, 4)) order.push_back(one.token);
  EXPECT_THAT(order, ElementsAre(1, 3, 5, 2));
  EXPECT_EQ(top_log_probs(logits, 10).size(), logits.size());
  EXPECT_NEAR(top_log_probs(logits, 1)[0].logprob, 3.0F - log_sum_exp(logits), 1e-5);
}

}  // namespace
}  // namespace celslm
