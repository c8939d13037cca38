// Contexts of fewer rows than tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "model/engine/engine.h"
#include "model/engine/prefill.h"
#include "tests/support/llama_oracle.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::byte_tokens;
using testing_support::nmse;
using testing_support::RandomModel;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

constexpr double kSame = 1e-10;  // NMSE of two f32 computations of one thing
constexpr int kTokens = 40;

class CondensedTest : public testing::TestWithParam<KernelPath> {
 protected:
  void load(const RandomModel& model, KvType type = KvType::kF32) {
    write_random_model(folder_ / "m.gguf", model);
    model_ = Model::load(folder_ / "m.gguf").value();
    type_ = type;
    engine_ = Engine::create(model_, {.n_threads = 2, .kernels = GetParam()}).value();
    native_ = KvSegment::create(config(), type, 0, kTokens).value();
    all_ = compute(native_);
  }

  const ModelConfig& config() const { return model_->config(); }

  // Computes the context into the segment; returns its rows, one for each token.
  CondensedKv compute(const std::shared_ptr<KvSegment>& segment) const {
    const SequenceChunk chunk{.own = segment, .n_tokens = kTokens};
    CondensedKv out{.n_rows = kTokens, .n_tokens = kTokens};
    Hidden hidden = engine_->embed(byte_tokens(kTokens)).value();
    const auto places = static_cast<std::size_t>(config().n_kv_heads) * kTokens;
    const auto tap = [&](int, std::span<const float> k, std::span<const float> v) {
      CondensedLayer layer{.k = {k.begin(), k.end()}, .v = {v.begin(), v.end()}, .log_mass = std::vector<float>(places)};
      for (std::size_t i = 0; i < places; ++i) layer.positions.push_back(static_cast<std::int32_t>(i % kTokens));
      out.layers.push_back(std::move(layer));
    };
    EXPECT_TRUE(engine_->run_layers(0, config().n_layers, {&chunk, 1}, hidden, tap));
    segment->set_length(kTokens);
    return out;
  }

  // Of `from`, the rows that `chosen` names for each KV head; log masses are 0.
  CondensedKv select(const CondensedKv& from, const std::vector<std::vector<int>>& chosen) const {
    CondensedKv out{.n_rows = static_cast<int>(chosen[0].size()), .n_tokens = from.n_tokens};
    const auto d = static_cast<std::size_t>(config().head_dim);
    for (const CondensedLayer& layer : from.layers) {
      CondensedLayer some;
      for (std::size_t row = 0; row < chosen[0].size(); ++row) {
        for (std::size_t head = 0; head < chosen.size(); ++head) {
          const auto at = (static_cast<std::size_t>(chosen[head][row]) * chosen.size() + head) * d;
          some.k.insert(some.k.end(), layer.k.data() + at, layer.k.data() + at + d);
          some.v.insert(some.v.end(), layer.v.data() + at, layer.v.data() + at + d);
        }
      }
      for (const auto& rows : chosen) some.positions.insert(some.positions.end(), rows.begin(), rows.end());
      some.log_mass.resize(some.positions.size());
      out.layers.push_back(std::move(some));
    }
    return out;
  }

  // Logits of every token of a question behind the context.
  std::vector<float> ask(const std::shared_ptr<const KvSegment>& context, Engine* engine = nullptr) const {
    const auto question = byte_tokens(7, 5);
    auto own = KvSegment::create(config(), KvType::kF32, context->next_position(), 16).value();
    const SequenceChunk chunk{.context = context, .own = std::move(own), .n_tokens = 7};
    Engine& by = engine == nullptr ? *engine_ : *engine;
    Hidden hidden = by.embed(question).value();
    EXPECT_TRUE(by.run_layers(0, config().n_layers, {&chunk, 1}, hidden));
    return hidden.values;
  }

  std::shared_ptr<KvSegment> segment(const CondensedKv& kv) const {
    auto made = condensed_segment(*model_, type_, kv);
    EXPECT_TRUE(made) << made.error().message;
    return made.value_or(nullptr);
  }

  std::string refusal(const CondensedKv& kv) const {
    const auto made = condensed_segment(*model_, type_, kv);
    EXPECT_FALSE(made);
    return made ? "" : made.error().message;
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
  KvType type_ = KvType::kF32;
  std::unique_ptr<Engine> engine_;
  std::shared_ptr<KvSegment> native_;
  CondensedKv all_;
};

INSTANTIATE_TEST_SUITE_P(Paths, CondensedTest, testing::Values(KernelPath::kFused, KernelPath::kPlain),
                         [](const auto& test) { return test.param == KernelPath::kFused ? "Fused" : "Plain"; });

TEST_P(CondensedTest, ARowForEveryTokenGivesTheBitsOfTheContext) {
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kBf16}) {
    for (const RandomModel& model :
         {RandomModel{.architecture = "qwen2", .n_heads = 8}, RandomModel{.n_heads = 6, .n_kv_heads = 3, .head_dim = 16}}) {
      load(model, type);
      EXPECT_EQ(ask(segment(all_)), ask(native_)) << to_string(type);
    }
  }
}

TEST_P(CondensedTest, ARowForEveryTokenInEightBitsIsCloseToTheContext) {
  load({.n_embd = 128, .n_heads = 4, .head_dim = 32}, KvType::kQ8);
  EXPECT_LE(nmse(ask(segment(all_)), ask(native_)), 1e-3);
}

TEST_P(CondensedTest, ARowOfLogMassLogTwoCountsAsTwo) {
  load({.architecture = "qwen2"});
  const auto twice = select(all_, {{3, 3, 9, 20}, {4, 5, 5, 21}});
  auto heavy = select(all_, {{3, 9, 20}, {4, 5, 21}});
  for (CondensedLayer& layer : heavy.layers) layer.log_mass = {std::log(2.0F), 0, 0, 0, std::log(2.0F), 0};
  EXPECT_LE(nmse(ask(segment(heavy)), ask(segment(twice))), kSame);
  EXPECT_GT(nmse(ask(segment(select(all_, {{3, 9, 20}, {4, 5, 21}}))), ask(segment(twice))), 1e-6);
}

// Attention knows distances only: context and question may move together.
TEST_P(CondensedTest, WhatFollowsGoesOnBehindTheTokensThatTheRowsStandFor) {
  load({});
  auto kv = select(all_, {{0, 7, 30}, {2, 7, 31}});
  const auto here = ask(segment(kv));
  kv.n_tokens += 100;
  EXPECT_GT(nmse(ask(segment(kv)), here), 1e-6);
  for (CondensedLayer& layer : kv.layers) {
    for (std::int32_t& position : layer.positions) position += 100;
  }
  const auto later = segment(kv);
  EXPECT_EQ(later->next_position(), kTokens + 100);
  EXPECT_LE(nmse(ask(later), here), 1e-8);
}

TEST_P(CondensedTest, BothKernelsAgreeOnDifferentRowsAndLogMassesOfEachHead) {
  load({.architecture = "qwen3", .n_heads = 8, .n_kv_heads = 4, .head_dim = 24});
  std::mt19937 random(3);
  std::vector<std::vector<int>> chosen(4, std::vector<int>(9));
  for (auto& rows : chosen) std::ranges::generate(rows, [&] { return static_cast<int>(random() % kTokens); });
  CondensedKv kv = select(all_, chosen);
  std::uniform_real_distribution<float> mass(-2, 4);
  for (CondensedLayer& layer : kv.layers) std::ranges::generate(layer.log_mass, [&] { return mass(random); });
  const auto other =
      Engine::create(model_, {.kernels = GetParam() == KernelPath::kFused ? KernelPath::kPlain : KernelPath::kFused});
  EXPECT_LE(nmse(ask(segment(kv), other->get()), ask(segment(kv))), kSame);
}

TEST_P(CondensedTest, RowsArriveInPiecesAndInAnyOrder) {
  load({.architecture = "qwen2"});
  const CondensedKv kv = select(all_, {{1, 8, 11, 30}, {0, 2, 5, 39}});
  const auto pieces = KvSegment::create_condensed(config(), type_, 4, kTokens).value();
  const auto width = static_cast<std::size_t>(config().kv_width());
  for (int layer = 0; layer < config().n_layers; ++layer) {
    const CondensedLayer& from = kv.layers[static_cast<std::size_t>(layer)];
    for (const std::size_t row : {2, 0}) {
      const std::vector<std::int32_t> positions = {from.positions[row], from.positions[row + 1], from.positions[row + 4],
                                                   from.positions[row + 5]};
      const std::vector<float> log_mass(4);
      const auto first = static_cast<int>(row);
      const auto values = [&](const std::vector<float>& all) { return std::span(all).subspan(row * width, 2 * width); };
      ASSERT_TRUE(Engine::import_condensed(*model_, *pieces, layer, first, {.n_rows = 2, .v = values(from.v)}));
      ASSERT_TRUE(Engine::import_condensed(
          *model_, *pieces, layer, first, {.n_rows = 2, .k = values(from.k), .positions = positions, .log_mass = log_mass}));
    }
  }
  EXPECT_EQ(ask(pieces), ask(segment(kv)));
}

// Where the rows of some layers cannot be had, they are computed here.
TEST_P(CondensedTest, LayersMayBeReplacedByThoseOfTheContext) {
  load({.architecture = "qwen2", .n_layers = 3});
  const CondensedKv kv = select(all_, {{1, 8, 11, 30}, {0, 2, 5, 39}});
  const auto mixed = segment(kv);
  const std::size_t bytes = mixed->size_bytes();
  ASSERT_TRUE(mixed->replace_layer(1, *native_));
  EXPECT_GT(mixed->size_bytes(), bytes);
  EXPECT_EQ(mixed->view(1).length, kTokens);
  EXPECT_EQ(mixed->view(1).log_mass, nullptr);
  EXPECT_EQ(mixed->next_position(), kTokens);
  const auto with_one = ask(mixed);
  EXPECT_GT(nmse(with_one, ask(segment(kv))), 1e-6);
  EXPECT_GT(nmse(with_one, ask(native_)), 1e-6);
  const auto other =
      Engine::create(model_, {.kernels = GetParam() == KernelPath::kFused ? KernelPath::kPlain : KernelPath::kFused});
  EXPECT_LE(nmse(ask(mixed, other->get()), with_one), kSame);
  for (const int layer : {0, 2}) ASSERT_TRUE(mixed->replace_layer(layer, *native_));
  EXPECT_EQ(ask(mixed), ask(native_));
}

TEST_P(CondensedTest, WhatCannotBeIsRefused) {
  load({});
  const CondensedKv good = select(all_, {{0, 7, 30}, {2, 7, 31}});
  const auto with = [&](const auto& change) {
    CondensedKv kv = good;
    change(kv);
    return refusal(kv);
  };
  EXPECT_THAT(with([](CondensedKv& kv) { kv.n_tokens = 2; }), HasSubstr("3 rows for 2 tokens"));
  EXPECT_THAT(with([](CondensedKv& kv) { kv.n_rows = 0; }), HasSubstr("0 rows"));
  EXPECT_THAT(with([](CondensedKv& kv) { kv.layers.pop_back(); }), HasSubstr("1 layers"));
  EXPECT_THAT(with([](CondensedKv& kv) { kv.layers[1].k.pop_back(); }), HasSubstr("layer 1"));
  EXPECT_THAT(with([](CondensedKv& kv) { kv.layers[1].positions[5] = kTokens; }),
              HasSubstr("layer 1: position 40 at index 5, expected 0 to 39"));
  EXPECT_THAT(with([](CondensedKv& kv) { kv.layers[0].positions[0] = -1; }), HasSubstr("position -1"));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -33.0F}) {
    EXPECT_THAT(with([&](CondensedKv& kv) { kv.layers[0].log_mass[2] = bad; }), HasSubstr("log mass"));
    if (std::isfinite(bad)) continue;
    EXPECT_THAT(with([&](CondensedKv& kv) { kv.layers[0].v[2] = bad; }), HasSubstr("not finite"));
  }
}

TEST_P(CondensedTest, ASegmentThatIsCondensedIsNotWrittenTokenByToken) {
  load({});
  const auto condensed = segment(select(all_, {{0, 7, 30}, {2, 7, 31}}));
  const std::vector<float> row(static_cast<std::size_t>(config().kv_width()));
  EXPECT_THAT(Engine::import_rows(*model_, *condensed, 0, 0, 1, row, row).error().message, HasSubstr("positions"));
  EXPECT_THAT(Engine::import_condensed(*model_, *native_, 0, 0, {.n_rows = 1, .v = row}).error().message,
              HasSubstr("import_rows"));
  EXPECT_THAT(Engine::import_condensed(*model_, *condensed, 0, 0, {.n_rows = 1, .k = row}).error().message,
              HasSubstr("without positions"));
  EXPECT_THAT(Engine::import_condensed(*model_, *condensed, 0, 3, {.n_rows = 1, .v = row}).error().message,
              HasSubstr("row 3 of a segment of 3"));
  EXPECT_THAT(ContextPrefill::start(*engine_, byte_tokens(2), condensed).error().message, HasSubstr("condensed"));
  Hidden hidden = engine_->embed(byte_tokens(1)).value();
  const SequenceChunk onto{.own = condensed, .own_length = 0, .n_tokens = 1};
  EXPECT_THAT(engine_->run_layers(0, 1, {&onto, 1}, hidden).error().message, HasSubstr("condensed"));
  const SequenceChunk behind_rows{
      .context = condensed, .own = KvSegment::create(config(), type_, 3, 4).value(), .n_tokens = 1};
  EXPECT_THAT(engine_->run_layers(0, 1, {&behind_rows, 1}, hidden).error().message, HasSubstr("ends at 40"));
}

}  // namespace
}  // namespace celslm
