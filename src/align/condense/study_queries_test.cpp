#include "align/condense/study_queries.h"

#include "align/fit/test_support.h"
#include "align/map/kv_planes.h"

namespace celslm {
namespace {

using testing_support::TemporaryFolder;
using testing_support::TestModel;
using testing_support::write_random_model;

class StudyQueriesTest : public testing::Test {
 protected:
  StudyQueriesTest() {
    write_random_model(folder_ / "model.gguf", {.n_layers = 3, .n_heads = 6, .n_kv_heads = 2, .head_dim = 16});
    model_ = std::make_unique<TestModel>(folder_ / "model.gguf");
    context_ = compute_kv(*model_->engine, tokens("the boat carries a letter to another harbour")).value().segment;
  }
  std::vector<Token> tokens(const std::string& text) const { return model_->model->text().tokenize(text, false, false); }
  StudyQueries start(const std::vector<std::vector<Token>>& conversations) const {
    return StudyQueries::start(*model_->engine, context_, conversations).value();
  }
  static constexpr int kAll = 1 << 20;

  TemporaryFolder folder_;
  std::unique_ptr<TestModel> model_;
  std::shared_ptr<const KvSegment> context_;
};

TEST_F(StudyQueriesTest, AreThoseOfEachConversationAlone) {
  std::vector<std::vector<Token>> conversations;
  while (conversations.size() < 30)
    conversations.push_back(tokens("where is the letter? it is " + std::to_string(conversations.size())));
  ASSERT_GT(conversations.size() * conversations[0].size(), kPrefillStep) << "more than one batch";
  auto together = start(conversations);
  std::vector<StudyQueries> each;
  for (const auto& one : conversations) each.push_back(start({one}));
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(together.layer(), layer);
    const auto queries = together.next().value();
    for (int head = 0; head < 2; ++head) {
      const MatrixF all = queries.of(head, kAll);
      ASSERT_EQ(all.cols(), 16);
    }
    Eigen::Index at = 0;
    for (StudyQueries& one : each) {
      const auto alone = one.next().value();
      for (int head = 0; head < 2; ++head) {
        const MatrixF expected = alone.of(head, kAll);
        EXPECT_LT((queries.of(head, kAll).middleRows(at, expected.rows()) - expected).cwiseAbs().maxCoeff(), 1e-4F);
      }
      at += alone.of(0, kAll).rows();
    }
    EXPECT_EQ(at, queries.of(0, kAll).rows());
  }
}

TEST_F(StudyQueriesTest, AreThoseOfTheQueryHeadsThatReadTheKvHead) {
  std::vector<float> values;
  for (int token = 0; token < 2; ++token) {
    for (int head = 0; head < 6; ++head) values.insert(values.end(), 16, static_cast<float>(10 * token + head));
  }
  const LayerQueries queries(model_->model->config(), values);
  EXPECT_EQ(queries.of(0, kAll).col(3), (Eigen::VectorXf(6) << 0, 1, 2, 10, 11, 12).finished());
  EXPECT_EQ(queries.of(1, kAll).col(3), (Eigen::VectorXf(6) << 3, 4, 5, 13, 14, 15).finished());
  const MatrixF some = queries.of(1, 4);
  ASSERT_EQ(some.rows(), 4);
  EXPECT_EQ(some, queries.of(1, 4)) << "always the same";
  for (Eigen::Index i = 1; i < 4; ++i) EXPECT_GT(some(i, 0), some(i - 1, 0)) << "none twice";
}

TEST_F(StudyQueriesTest, PassingALayerBehindTheSameContextChangesNothing) {
  const std::vector<std::vector<Token>> conversations{tokens("where is it?"), tokens("who carries the letter")};
  auto straight = start(conversations);
  auto peeking = start(conversations);
  for (int layer = 0; layer < 3; ++layer) {
    const auto expected = straight.next().value();
    const auto got = peeking.peek().value();
    EXPECT_EQ(peeking.layer(), layer);
    ASSERT_TRUE(peeking.pass(context_));
    EXPECT_EQ(got.of(1, kAll), expected.of(1, kAll)) << layer;
  }
}

TEST_F(StudyQueriesTest, PassingALayerBehindAnotherContextChangesTheNextQueries) {
  const std::vector<std::vector<Token>> conversations{tokens("where is it?")};
  const auto other = compute_kv(*model_->engine, tokens("a letter carries the boat to another harbour")).value().segment;
  ASSERT_EQ(other->length(), context_->length());
  auto straight = start(conversations);
  auto changed = start(conversations);
  EXPECT_EQ(straight.next().value().of(0, kAll), changed.peek().value().of(0, kAll));
  ASSERT_TRUE(changed.pass(other));
  EXPECT_NE(straight.next().value().of(0, kAll), changed.peek().value().of(0, kAll));
}

}  // namespace
}  // namespace celslm
