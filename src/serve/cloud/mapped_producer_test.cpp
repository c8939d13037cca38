#include "serve/cloud/mapped_producer.h"

#include <gmock/gmock.h>

#include <map>

#include "align/fit/test_support.h"
#include "serve/cloud/model_producer.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::fit_between;
using testing_support::some_documents;
using testing_support::TemporaryFolder;
using testing_support::TestModel;
using testing_support::write_random_model;

using Rows = std::map<int, std::vector<float>>;  // by layer: K of all tokens, then V

Result<Rows> produced(KvProducer& producer, std::span<const Token> tokens) {
  Rows k;
  Rows v;
  CELSLM_CHECK_OK(producer.produce(tokens, KvType::kF16, {}, [&](int layer, int, auto rows_k, auto rows_v) -> Status {
    k[layer].insert(k[layer].end(), rows_k.begin(), rows_k.end());
    v[layer].insert(v[layer].end(), rows_v.begin(), rows_v.end());
    return {};
  }));
  for (auto& [layer, rows] : k) rows.insert(rows.end(), v[layer].begin(), v[layer].end());
  return k;
}

class MappedProducerTest : public testing::Test {
 protected:
  MappedProducerTest() {
    write_random_model(folder_ / "a.gguf", {.n_layers = 3});
    write_random_model(folder_ / "other.gguf", {.n_layers = 3, .seed = 9});
    TestModel from(folder_ / "a.gguf");
    TestModel to(folder_ / "a.gguf");
    model_ = from.model;
    const FitOptions options{.select = {.lambda = 1e-9}, .precision = MapPrecision::kF32};
    map_ = fit_between(from, to, some_documents(60), options).value();
    map_.gate = {.state = GateState::kPassed, .split = 1};
    tokens_ = tokens_of(model_->text(), some_documents(1, 99).front(), 200).value();
  }
  Result<std::unique_ptr<MappedProducer>> make(const KvMap& map) {
    return MappedProducer::create(model_, model_, map, {.engine = {.n_threads = 1}});
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
  KvMap map_;
  std::vector<Token> tokens_;
};

TEST_F(MappedProducerTest, GivesExactLayersBelowTheSplitAndMappedOnesFromItOn) {
  const auto mapped = make(map_).value();
  const auto exact = ModelProducer::create(model_, {.n_threads = 1}).value();
  const Rows rows = produced(*mapped, tokens_).value();
  const Rows real = produced(*exact, tokens_).value();
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows.at(0), real.at(0));
  for (const int layer : {1, 2}) {
    ASSERT_EQ(rows.at(layer).size(), real.at(layer).size());
    for (std::size_t i = 0; i < real.at(layer).size(); ++i) ASSERT_NEAR(rows.at(layer)[i], real.at(layer)[i], 0.02F);
  }
  ASSERT_TRUE(mapped->model().map.has_value());
  EXPECT_EQ(mapped->model().map->split, 1);
  EXPECT_EQ(mapped->model().fingerprint, exact->model().fingerprint);
}

TEST_F(MappedProducerTest, RefusesMapsThatDidNotPassOrAreOfOtherModels) {
  KvMap refused = map_;
  refused.gate.state = GateState::kRefused;
  EXPECT_THAT(make(refused).error().message, HasSubstr("refused"));
  KvMap unjudged = map_;
  unjudged.gate = {};
  EXPECT_THAT(make(unjudged).error().message, HasSubstr("not judged"));
  KvMap foreign = map_;
  foreign.source.id = hash_of("another");
  EXPECT_THAT(make(foreign).error().message, HasSubstr("the map's source is model"));
}

TEST_F(MappedProducerTest, RefusesAContextWhoseBeginningComesOutDifferently) {
  KvMap negated = map_;
  negated.gate.split = 0;
  for (LayerMap& layer : negated.layers) {
    for (MapMatrix& block : layer.v.blocks) std::ranges::transform(block.left, block.left.begin(), std::negate());
  }
  const auto producer =
      MappedProducer::create(model_, model_, negated, {.engine = {.n_threads = 1}, .least_cosine = 0.9}).value();
  const auto rows = produced(*producer, tokens_);
  ASSERT_FALSE(rows.has_value());
  EXPECT_EQ(rows.error().kind, ErrorKind::kMismatch);
  EXPECT_THAT(rows.error().message, HasSubstr("does not suit this context"));
}

TEST_F(MappedProducerTest, StopsWhenAskedTo) {
  const auto producer = make(map_).value();
  std::stop_source stop;
  stop.request_stop();
  const Status status =
      producer->produce(tokens_, KvType::kF16, stop.get_token(), [](int, int, auto, auto) { return Status(); });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kCancelled);
}

}  // namespace
}  // namespace celslm
