#include "align/judge/judge.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "align/fit/test_support.h"
#include "align/judge/report.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::fit_between;
using testing_support::some_documents;
using testing_support::TemporaryFolder;
using testing_support::TestModel;
using testing_support::write_random_model;

class JudgeTest : public testing::Test {
 protected:
  JudgeTest() {
    write_random_model(folder_ / "a.gguf", {.n_layers = 2});
    from_ = std::make_unique<TestModel>(folder_ / "a.gguf");
    to_ = std::make_unique<TestModel>(folder_ / "a.gguf");
    map_ =
        fit_between(*from_, *to_, some_documents(60), {.select = {.lambda = 1e-9}, .precision = MapPrecision::kF32}).value();
  }
  std::vector<Observation> judge(Judge& judge) {
    std::vector<Observation> seen;
    for (int number = 0; const Document& document : some_documents(3, 99)) {
      const auto some = judge.judge(number++, document).value();
      seen.insert(seen.end(), some.begin(), some.end());
    }
    return seen;
  }

  TemporaryFolder folder_;
  std::unique_ptr<TestModel> from_;
  std::unique_ptr<TestModel> to_;
  KvMap map_;
};

TEST_F(JudgeTest, AMapFromAModelToItselfIsLosslessAndTheControlsAreNot) {
  Judge judge(*from_->engine, *to_->engine, map_, {.splits = {0, 1}});
  const Report report = summarise(map_, judge, this->judge(judge));
  ASSERT_FALSE(report.texts.empty());
  for (const ConditionMetrics& f : report.texts) {
    EXPECT_NEAR(*f.kl_large, *f.kl, 1e-9) << to_string(f.condition) << ": the large model is the small one";
  }
  for (const ConditionMetrics& f : report.texts) {
    const bool all_layers = f.condition.split == 0;
    if (f.condition.kind != Condition::Kind::kVariant || f.condition.variant == KvVariant::kRawCopy) {
      EXPECT_LT(*f.kl, 1e-9) << to_string(f.condition) << ": between equal models the raw copy is exact";
    } else if (f.condition.variant == KvVariant::kMapped) {
      EXPECT_LT(*f.kl, 1e-4) << to_string(f.condition);
    } else if (all_layers) {
      EXPECT_GT(*f.kl, 1e-3) << to_string(f.condition);
    }
  }
  const VariantFit& mapped = judge.fit(KvVariant::kMapped);
  EXPECT_GT(mapped.k[1].r2(), 0.9999);
  EXPECT_GT(mapped.cosine[1] / mapped.rows, 0.9999);
  EXPECT_LT(judge.fit(KvVariant::kRandom).v[1].r2(), 0.5);
  EXPECT_NEAR(report.cka_k[1][1], 1.0, 1e-6);
  EXPECT_LT(report.cka_k[1][0], 0.99);
}

TEST_F(JudgeTest, FullPrecisionKvBringsAQuantizedModelCloserToTheOriginal) {
  write_random_model(folder_ / "quantized.gguf", {.n_layers = 2, .type = GGML_TYPE_Q4_0});
  TestModel quantized(folder_ / "quantized.gguf");
  const KvMap map = fit_between(*from_, quantized, some_documents(20), {}).value();
  Judge judge(*from_->engine, *quantized.engine, map, {.splits = {0}});
  const Report report = summarise(map, judge, this->judge(judge));
  std::map<std::string, double> nats;
  for (const ConditionMetrics& f : report.texts) nats[to_string(f.condition)] = *f.kl_large;
  EXPECT_EQ(nats["large model"], 0.0);
  EXPECT_GT(nats["native"], 0.0);
  EXPECT_LT(nats["raw copy from layer 0"], nats["native"]);
}

TEST_F(JudgeTest, TheGatePassesALosslessMap) {
  Judge judge(*from_->engine, *to_->engine, map_, {.splits = {0, 1}});
  const Gate gate = judge_splits(split_metrics(this->judge(judge)), {});
  EXPECT_EQ(gate.state, GateState::kPassed);
  EXPECT_EQ(gate.split, 0);
  EXPECT_EQ(gate.splits.size(), 2U);
}

TEST_F(JudgeTest, AReportRendersAsTablesOfMeansAndAsJsonWithEveryObservation) {
  Judge judge(*from_->engine, *to_->engine, map_, {.splits = {1}});
  const Report report = summarise(map_, judge, this->judge(judge));
  EXPECT_THAT(to_text(report), HasSubstr("mapped from layer 1"));
  const nlohmann::json json = to_json(report);
  EXPECT_EQ(json["layers"].size(), 2U);
  for (const ConditionMetrics& f : report.texts) {
    double kl = 0.0;
    double positions = 0.0;
    for (const auto& o : json["observations"]) {
      if (o["kv"] != to_string(f.condition)) continue;
      kl += o["kl"].get<double>();
      positions += o["positions"].get<double>();
    }
    EXPECT_NEAR(kl / positions, f.kl.value(), 1e-12) << to_string(f.condition);
  }
}

}  // namespace
}  // namespace celslm
