#include "align/condense/condense.h"

#include <gmock/gmock.h>

#include "align/fit/test_support.h"
#include "align/judge/context_decoder.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::TemporaryFolder;
using testing_support::TestModel;
using testing_support::write_random_model;

class CondenseTest : public testing::Test {
 protected:
  CondenseTest() {
    write_random_model(folder_ / "model.gguf", {.architecture = "qwen2", .n_layers = 3});
    model_ = std::make_unique<TestModel>(folder_ / "model.gguf");
    context_ = compute_kv(*model_->engine, tokens(text_)).value();
  }
  std::vector<Token> tokens(const std::string& text) const { return model_->model->text().tokenize(text, false, false); }
  int n_tokens() const { return context_.planes.n_tokens; }
  std::vector<std::vector<Token>> study() const {
    return {tokens("where is the boat? in the harbour"), tokens("who carries it? another boat"), tokens(text_)};
  }
  MatchOptions rows(int n, RowRank rank = RowRank::kPursuit) const { return {.choice = {.n_rows = n, .rank = rank}}; }

  std::shared_ptr<const KvSegment> segment_of(const CondensedKv& kv) const {
    return condensed_segment(*model_->model, KvType::kF16, kv).value();
  }
  std::vector<float> logits_behind(const std::shared_ptr<const KvSegment>& context) const {
    return ContextDecoder(*model_->engine).forced_logits(context, tokens("when does the boat carry a letter?")).value();
  }
  // Mean over positions.
  double divergence(const CondensedKv& kv) const {
    const auto exact = logits_behind(context_.segment);
    const auto other = logits_behind(segment_of(kv));
    const auto width = static_cast<std::size_t>(model_->model->config().n_vocab);
    double sum = 0.0;
    for (std::size_t at = 0; at < exact.size(); at += width)
      sum += kl_divergence(std::span(exact).subspan(at, width), std::span(other).subspan(at, width));
    return sum / static_cast<double>(exact.size() / width);
  }

  const std::string text_ =
      "the boat carries a letter to another harbour, where it rained. another boat carries it to the boat";
  TemporaryFolder folder_;
  std::unique_ptr<TestModel> model_;
  ExactKv context_;
};

TEST_F(CondenseTest, WithAllRowsTheModelReadsTheContext) {
  const auto kv = condense(*model_->engine, context_, study(), {{rows(n_tokens())}}).value().front();
  EXPECT_TRUE(check_condensed(model_->model->config(), kv));
  EXPECT_EQ(kv.n_tokens, n_tokens());
  for (std::size_t layer = 0; layer < kv.layers.size(); ++layer) EXPECT_EQ(kv.layers[layer].k, context_.planes.k[layer]);
  EXPECT_LT(divergence(kv), 1e-6);
  EXPECT_EQ(segment_of(kv)->next_position(), context_.segment->next_position());
}

TEST_F(CondenseTest, FewerRowsReadWorseButBetterThanRowsAtRandom) {
  MatchOptions random = rows(n_tokens() / 4, RowRank::kRandom);
  random.fit_masses = random.fit_values = false;
  const std::vector variants{rows(n_tokens() / 2), rows(n_tokens() / 4), random};
  const auto made = condense(*model_->engine, context_, study(), variants).value();
  ASSERT_EQ(made.size(), 3U);
  for (std::size_t i = 0; i < made.size(); ++i) {
    EXPECT_TRUE(check_condensed(model_->model->config(), made[i]));
    EXPECT_EQ(made[i].n_rows, variants[i].choice.n_rows);
  }
  EXPECT_GT(divergence(made[0]), 1e-6);
  EXPECT_LT(divergence(made[0]), divergence(made[1]));
  EXPECT_LT(divergence(made[1]), divergence(made[2]));
}

TEST_F(CondenseTest, VariantsTogetherAreEachAlone) {
  const std::vector variants{rows(20), rows(10, RowRank::kAttention)};
  const auto together = condense(*model_->engine, context_, study(), variants).value();
  for (std::size_t i = 0; i < variants.size(); ++i) {
    const auto alone = condense(*model_->engine, context_, study(), {&variants[i], 1}).value().front();
    for (std::size_t layer = 0; layer < 3; ++layer) {
      EXPECT_EQ(together[i].layers[layer].v, alone.layers[layer].v);
      EXPECT_EQ(together[i].layers[layer].positions, alone.layers[layer].positions);
    }
  }
}

TEST_F(CondenseTest, OnPolicyTheFirstLayerIsTheSameAndTheOthersAreFittedToWhatIsReadThen) {
  const auto straight = condense(*model_->engine, context_, study(), {{rows(12)}}).value().front();
  std::vector<int> done;
  const CondenseOptions options{.progress = [&](int layers, int of) {
    EXPECT_EQ(of, 3);
    done.push_back(layers);
  }};
  const auto on_policy = condense_on_policy(*model_->engine, context_, study(), rows(12), options).value();
  EXPECT_TRUE(check_condensed(model_->model->config(), on_policy));
  EXPECT_EQ(on_policy.layers[0].v, straight.layers[0].v);
  EXPECT_NE(on_policy.layers[1].v, straight.layers[1].v);
  EXPECT_EQ(done, (std::vector{1, 2, 3}));
  EXPECT_LT(divergence(on_policy), 2.0 * divergence(straight));
}

TEST_F(CondenseTest, WithoutConversationsThereIsNothingToFitTo) {
  for (const std::vector<std::vector<Token>>& conversations : {std::vector<std::vector<Token>>{}, {{}}}) {
    const auto refused = condense(*model_->engine, context_, conversations, {{rows(12)}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  }
}

TEST_F(CondenseTest, NumbersOfRowsThatDoNotFitAreRefused) {
  for (const int n : {0, 7, n_tokens() + 1}) {
    const auto refused = condense(*model_->engine, context_, study(), {{rows(n)}});
    ASSERT_FALSE(refused) << n;
    EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(refused.error().message, HasSubstr("expected 8 (those always kept) to"));
    EXPECT_FALSE(condense_on_policy(*model_->engine, context_, study(), rows(n)));
  }
}

}  // namespace
}  // namespace celslm
