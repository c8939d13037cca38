// States of recurrent layers: they go forward only, and are the same bits however a text is cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "model/engine/engine.h"
#include "model/engine/prefill.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::byte_tokens;
using testing_support::RandomModel;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

constexpr int kTokens = 40;

class StatesTest : public testing::TestWithParam<const char*> {
 protected:
  StatesTest() {
    write_random_model(folder_ / "m.gguf", {.architecture = GetParam(), .n_layers = 4});
    model_ = Model::load(folder_ / "m.gguf").value();
    engine_ = new_engine(1);
  }

  std::unique_ptr<Engine> new_engine(int n_threads) const {
    return Engine::create(model_, {.n_threads = n_threads}).value();
  }
  std::shared_ptr<KvSegment> segment(int first = 0, int capacity = kTokens) const {
    return KvSegment::create(model_->config(), KvType::kF16, first, capacity).value();
  }
  // The segment of these tokens after chunks of so many.
  std::shared_ptr<KvSegment> computed(Engine& engine, std::span<const Token> tokens, const std::vector<int>& lengths,
                                      std::shared_ptr<const KvSegment> context = nullptr) const {
    auto own = segment(context ? context->next_position() : 0);
    for (const int n : lengths) {
      const SequenceChunk chunk{.context = context, .own = own, .own_length = own->length(), .n_tokens = n};
      const auto next = tokens.subspan(static_cast<std::size_t>(own->length()), static_cast<std::size_t>(n));
      EXPECT_TRUE(engine.forward(next, {&chunk, 1}));
    }
    return own;
  }
  std::string refusal(std::shared_ptr<const KvSegment> context, const std::shared_ptr<KvSegment>& own, int own_length,
                      std::optional<int> context_rows = {}) {
    const SequenceChunk chunk{
        .context = std::move(context), .own = own, .own_length = own_length, .n_tokens = 1, .context_rows = context_rows};
    const auto logits = engine_->forward(std::vector<Token>{1}, {&chunk, 1});
    return logits ? "" : logits.error().message;
  }
  void expect_same_states(const KvSegment& a, const KvSegment& b) const {
    for (int layer = 0; layer < model_->config().n_layers; ++layer) {
      EXPECT_EQ(a.state_rows(layer), b.state_rows(layer));
      EXPECT_TRUE(std::ranges::equal(a.state(layer), b.state(layer))) << layer;
    }
  }

  TemporaryFolder folder_;
  const std::vector<Token> tokens_ = byte_tokens(kTokens);
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Engine> engine_;
};

INSTANTIATE_TEST_SUITE_P(All, StatesTest, testing::Values("lfm2", "qwen35"));

TEST_P(StatesTest, AreInTheConfigAndTheFingerprint) {
  const ModelConfig& config = model_->config();
  EXPECT_TRUE(config.has_states());
  EXPECT_EQ(config.n_row_layers(), 2);
  EXPECT_EQ(model_->fingerprint().states.size(), 4U);
  for (int layer = 0; layer < 4; ++layer) {
    const auto bytes = static_cast<std::uint32_t>(config.state_values(layer)) * 4;
    EXPECT_EQ(bytes > 0, layer % 2 == 0);
    EXPECT_EQ(model_->fingerprint().state_bytes(layer), bytes);
  }
}

// The first layer's, whose input does not depend on how attention's sums are grouped.
TEST_P(StatesTest, AreTheSameBitsHoweverATextIsCutAndWhoeverComputes) {
  const auto one = computed(*engine_, tokens_, {kTokens});
  const auto three = new_engine(3);
  for (const auto& lengths : {std::vector<int>(kTokens, 1), {1, 1, 38}, {39, 1}, {2, 3, 35}}) {
    const auto cut = computed(*three, tokens_, lengths);
    EXPECT_TRUE(std::ranges::equal(std::as_const(*one).state(0), std::as_const(*cut).state(0)));
  }
}

TEST_P(StatesTest, OfAContextAreWhereItsUsersBegin) {
  const auto context = computed(*engine_, tokens_, {kTokens});
  const auto before = segment();
  before->copy_from(*context, kTokens);
  const auto suffix = byte_tokens(9, 3);
  const auto first = computed(*engine_, suffix, {9}, context);
  const auto second = computed(*engine_, suffix, {4, 5}, context);
  expect_same_states(*context, *before);  // nobody has changed it
  EXPECT_TRUE(std::ranges::equal(std::as_const(*first).state(0), std::as_const(*second).state(0)));
}

TEST_P(StatesTest, DoNotGoBack) {
  const auto own = computed(*engine_, tokens_, {20});
  EXPECT_EQ(refusal(nullptr, own, 20), "");
  EXPECT_THAT(refusal(nullptr, own, 20),
              HasSubstr("the state of layer 0 is that after 21 tokens of its segment, not after 20"));
  EXPECT_EQ(refusal(nullptr, own, 0), "") << "beginning again is possible";
}

TEST_P(StatesTest, OfAContextAreThoseOfItsEndOnly) {
  const auto context = computed(*engine_, tokens_, {kTokens});
  EXPECT_THAT(refusal(context, segment(30), 0, 30), HasSubstr("40 tokens of its context, not after 30"));
  const auto empty = segment();
  empty->set_length(kTokens);
  EXPECT_THAT(refusal(empty, segment(kTokens), 0), HasSubstr("after 0 tokens of its context, not after 40"));
}

TEST_P(StatesTest, AreCopiedWithAllRowsOrNotAtAll) {
  const auto own = computed(*engine_, tokens_, {20});
  EXPECT_EQ(own->copyable(20), 20);
  EXPECT_EQ(own->copyable(19), 0);
  const auto copy = segment();
  copy->copy_from(*own, 19);
  EXPECT_EQ(copy->length(), 0);
  copy->copy_from(*own, 20);
  EXPECT_EQ(copy->length(), 20);
  expect_same_states(*copy, *own);
  const auto rest = std::span(tokens_).subspan(20);
  const SequenceChunk chunk{.own = copy, .own_length = 20, .n_tokens = 20};
  ASSERT_TRUE(engine_->forward(rest, {&chunk, 1}));
  expect_same_states(*copy, *computed(*engine_, tokens_, {20, 20}));
}

TEST_P(StatesTest, AreRefusedWhereTheyDoNotFit) {
  const auto into = segment();
  const auto n = static_cast<std::size_t>(model_->config().state_values(0));
  const auto refusal = [&](int layer, int n_rows, const std::vector<float>& state) {
    const Status status = Engine::import_state(*model_, *into, layer, n_rows, state);
    return status ? "" : status.error().message;
  };
  EXPECT_THAT(refusal(1, 10, std::vector<float>(n)), HasSubstr("layer 1"));
  EXPECT_THAT(refusal(0, 10, std::vector<float>(n - 1)), HasSubstr("expected"));
  EXPECT_THAT(refusal(0, kTokens + 1, std::vector<float>(n)), HasSubstr("a state behind row 41"));
  std::vector<float> state(n);
  state.back() = std::numeric_limits<float>::infinity();
  EXPECT_THAT(refusal(0, 10, state), HasSubstr("infinity"));
  const std::vector<float> row(static_cast<std::size_t>(model_->config().kv_width()));
  const Status rows = Engine::import_rows(*model_, *into, 0, 0, 1, row, row);
  ASSERT_FALSE(rows);
  EXPECT_THAT(rows.error().message, HasSubstr("recurrent"));
}

TEST_P(StatesTest, TakeMemoryOncePerSegment) {
  const ModelConfig& config = model_->config();
  const auto bytes = [&](int n) { return KvSegment::resident_bytes(config, KvType::kF16, n); };
  EXPECT_GE(bytes(0), config.state_bytes());
  EXPECT_LT(bytes(512) - bytes(0), 2U * config.n_row_layers() * 512U * config.kv_width() * 2U + (64U << 10));
}

}  // namespace
}  // namespace celslm
