// KV that is tuned where it is computed, and KV that was tuned elsewhere and imported, are to have the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "model/engine/prefill.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::byte_tokens;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

// K and V of all layers, as a producer gets them.
struct Rows {
  std::vector<std::vector<float>> k;
  std::vector<std::vector<float>> v;
};

class TunedPrefillTest : public testing::TestWithParam<KvType> {
 protected:
  void SetUp() override {
    write_random_model(folder_ / "m.gguf", {.architecture = "qwen2", .n_embd = 128, .head_dim = 32, .n_ctx = 2048});
    model_ = Model::load(folder_ / "m.gguf").value();
    engine_ = Engine::create(model_, {.n_threads = 2}).value();
    auto tuning = std::make_shared<KvTuning>();
    tuning->n_layers = model_->config().n_layers;
    tuning->kv_width = model_->config().kv_width();
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (int i = 0; i < tuning->n_layers * tuning->kv_width; ++i) {
      tuning->k.push_back(normal(random));
      tuning->v.push_back(normal(random));
    }
    tuning_ = tuning;
  }

  std::shared_ptr<KvSegment> segment(int n) const { return KvSegment::create(model_->config(), GetParam(), 0, n).value(); }

  Rows prefill(const std::shared_ptr<KvSegment>& segment, int n, const std::shared_ptr<const KvTuning>& tuning) {
    Rows out{.k = std::vector<std::vector<float>>(static_cast<std::size_t>(segment->n_layers())), .v = {}};
    out.v.resize(out.k.size());
    auto prefill = ContextPrefill::start(*engine_, byte_tokens(n), segment, tuning).value();
    while (!prefill.finished()) {
      const Status done = prefill.advance([&](int layer, int first_row, auto k, auto v) {
        auto& k_rows = out.k[static_cast<std::size_t>(layer)];
        auto& v_rows = out.v[static_cast<std::size_t>(layer)];
        EXPECT_EQ(k_rows.size(), static_cast<std::size_t>(first_row * model_->config().kv_width()));
        k_rows.insert(k_rows.end(), k.begin(), k.end());
        v_rows.insert(v_rows.end(), v.begin(), v.end());
      });
      EXPECT_TRUE(done) << done.error().message;
    }
    EXPECT_EQ(segment->length(), n);
    return out;
  }

  static bool same(const KvSegment& a, const KvSegment& b) {
    for (int layer = 0; layer < a.n_layers(); ++layer) {
      const auto n = static_cast<std::size_t>(a.n_kv_heads() * a.capacity()) * row_bytes(a.type(), a.head_dim());
      if (std::memcmp(a.view(layer).k, b.view(layer).k, n) != 0) return false;
      if (a.type() != KvType::kQ8 && std::memcmp(a.view(layer).v, b.view(layer).v, n) != 0) return false;
    }
    return true;
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Engine> engine_;
  std::shared_ptr<const KvTuning> tuning_;
};

TEST_P(TunedPrefillTest, ComputedAndImportedHaveTheSameBits) {
  for (const int n : {1, 511, 512, 513, 1100}) {
    const auto local = segment(n);
    const Rows rows = prefill(local, n, tuning_);
    const auto imported = segment(n);
    for (int layer = 0; layer < imported->n_layers(); ++layer) {
      const auto i = static_cast<std::size_t>(layer);
      ASSERT_TRUE(Engine::import_rows(*model_, *imported, layer, 0, n, rows.k[i], rows.v[i]));
    }
    EXPECT_TRUE(same(*local, *imported)) << n;
  }
}

// The prefill reads native rows: a tuned one is native KV plus constants, nothing else.
TEST_P(TunedPrefillTest, IsNativeKvPlusConstants) {
  const int n = 700;
  const auto native_segment = segment(n);
  const auto tuned_segment = segment(n);
  Rows native = prefill(native_segment, n, nullptr);
  const Rows tuned = prefill(tuned_segment, n, tuning_);
  EXPECT_FALSE(same(*native_segment, *tuned_segment));
  for (int layer = 0; layer < tuned_segment->n_layers(); ++layer) {
    const auto i = static_cast<std::size_t>(layer);
    ASSERT_TRUE(tune_rows(*tuning_, layer, GetParam(), native.k[i], native.v[i]));
    EXPECT_EQ(native.k[i], tuned.k[i]);
    EXPECT_EQ(native.v[i], tuned.v[i]);
    EXPECT_NE(native.k[i], std::vector<float>(native.k[i].size()));
  }
}

TEST_P(TunedPrefillTest, ConstantsOfZeroChangeNothing) {
  auto zero = std::make_shared<KvTuning>(*tuning_);
  std::ranges::fill(zero->k, 0.0F);
  std::ranges::fill(zero->v, 0.0F);
  const auto native = segment(600);
  const auto tuned = segment(600);
  prefill(native, 600, nullptr);
  prefill(tuned, 600, zero);
  EXPECT_TRUE(same(*native, *tuned));
}

TEST_P(TunedPrefillTest, WhatTheTypeCannotHoldIsRefused) {
  auto large = std::make_shared<KvTuning>(*tuning_);
  const bool f16 = GetParam() == KvType::kF16 || GetParam() == KvType::kQ8;
  large->v[static_cast<std::size_t>(large->kv_width) + 7] = f16 ? 70'000.0F : 3.4e38F;
  auto prefill = ContextPrefill::start(*engine_, byte_tokens(3), segment(3), large).value();
  ASSERT_TRUE(prefill.advance());
  EXPECT_THAT(prefill.advance().error().message, HasSubstr("channel 7 of V in layer 1"));
}

TEST_P(TunedPrefillTest, ConstantsOfAnotherShapeAreRefused) {
  auto other = std::make_shared<KvTuning>(*tuning_);
  other->n_layers = 1;
  const auto prefill = ContextPrefill::start(*engine_, byte_tokens(3), segment(3), other);
  EXPECT_EQ(prefill.error().kind, ErrorKind::kMismatch);
  EXPECT_THAT(prefill.error().message, HasSubstr("1 layers of 64 values, the model has 2 of 64"));
}

INSTANTIATE_TEST_SUITE_P(Types, TunedPrefillTest, testing::Values(KvType::kF16, KvType::kBf16, KvType::kF32, KvType::kQ8),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace celslm
