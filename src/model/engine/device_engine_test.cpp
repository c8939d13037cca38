// Graphs of generic operators on a device against the CPU's own: ggml's CPU backend behind the device's interface always,
// and Vulkan where there is a device for it (Mesa's software Vulkan with GGML_VK_VISIBLE_DEVICES=0; ./dev test vulkan).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <random>

#include "model/device/open_device.h"
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

// NMSE of logits. Vulkan multiplies in f16 where it can.
double limit_of(const std::string& device) {
  return device == "CPU" ? 1e-6 : 1e-4;
}

class DeviceEngineTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "CPU" || OpenDevice::open(GetParam())) return;
    if (std::getenv("CELSLM_TEST_DEVICE") != nullptr) FAIL() << "no device " << GetParam();
    GTEST_SKIP() << "no device " << GetParam();
  }

  void load(const RandomModel& model, int layers = 1000, std::uint64_t bytes = UINT64_MAX) {
    write_random_model(folder_ / "m.gguf", model);
    here_ = Model::load(folder_ / "m.gguf").value();
    auto there = Model::load(folder_ / "m.gguf", {.device = GetParam(), .device_layers = layers, .device_bytes = bytes});
    ASSERT_TRUE(there) << there.error().message;
    there_ = *there;
    cpu_ = Engine::create(here_, {.n_threads = 1}).value();
    device_ = Engine::create(there_, {.n_threads = 1}).value();
  }

  double limit() const { return limit_of(GetParam()); }

  std::shared_ptr<KvSegment> segment(int capacity, int first = 0, KvType type = KvType::kF16) const {
    return KvSegment::create(here_->config(), type, first, capacity).value();
  }

  static std::vector<float> forward(Engine& engine, std::span<const Token> tokens, std::span<const SequenceChunk> batch) {
    const auto out = engine.forward(tokens, batch);
    EXPECT_TRUE(out) << out.error().message;
    return out ? std::vector<float>(out->begin(), out->end()) : std::vector<float>(1);
  }

  // Logits of the last token of a sequence that is computed at once.
  std::vector<float> whole(Engine& engine, std::span<const Token> tokens, KvType type = KvType::kF16) const {
    const auto n = static_cast<int>(tokens.size());
    const SequenceChunk chunk{.own = segment(n, 0, type), .n_tokens = n};
    return forward(engine, tokens, {&chunk, 1});
  }

  // A context's rows in a segment of their own; what a pack of it would hold goes to `tap`.
  std::shared_ptr<KvSegment> context_of(Engine& engine, std::span<const Token> tokens, const ContextPrefill::Tap& tap = {},
                                        const std::shared_ptr<const KvTuning>& tuning = {}) const {
    auto out = segment(static_cast<int>(tokens.size()));
    auto prefill = ContextPrefill::start(engine, tokens, out, tuning).value();
    while (!prefill.finished()) {
      const Status done = prefill.advance(tap);
      EXPECT_TRUE(done) << done.error().message;
      if (!done) break;
    }
    return out;
  }

  // The context as a box gets it that imports what this engine's tap shows.
  std::shared_ptr<KvSegment> imported(Engine& engine, std::span<const Token> tokens) const {
    auto out = segment(static_cast<int>(tokens.size()));
    const auto width = static_cast<std::size_t>(here_->config().kv_width());
    (void)context_of(engine, tokens, [&](int layer, int row, std::span<const float> k, std::span<const float> v) {
      EXPECT_TRUE(Engine::import_rows(*here_, *out, layer, row, static_cast<int>(k.size() / width), k, v));
    });
    out->set_length(out->capacity());
    return out;
  }

  std::vector<float> behind(Engine& engine, const std::shared_ptr<KvSegment>& context, std::span<const Token> tokens) const {
    const auto n = static_cast<int>(tokens.size());
    const SequenceChunk chunk{.context = context, .own = segment(n, context->next_position()), .n_tokens = n};
    return forward(engine, tokens, {&chunk, 1});
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Model> here_;   // computed by the CPU
  std::shared_ptr<const Model> there_;  // the same weights, computed by the device
  std::unique_ptr<Engine> cpu_;
  std::unique_ptr<Engine> device_;
};

TEST_P(DeviceEngineTest, LogitsAreTheCpus) {
  const std::vector<RandomModel> models = {
      {},
      {.n_heads = 8, .n_kv_heads = 1},
      {.n_heads = 6, .n_kv_heads = 3, .head_dim = 24},
      {.tied = true},
      {.qkv_bias = true},
      {.rope_base = 500000.0F, .frequency_factors = true},
      {.rope_scaling = "yarn", .rope_factor = 4.0F, .rope_original_context = 64},
      {.rope_scaling = "linear", .rope_factor = 4.0F},
      {.architecture = "qwen2", .key_bias = 70.0F, .rope_base = 1e6F},
      {.architecture = "qwen3"},
      {.architecture = "smollm3", .n_layers = 5, .tied = true, .rope_base = 5e6F},
      {.architecture = "granite"},
      {.type = GGML_TYPE_Q8_0},
      {.type = GGML_TYPE_F16},
  };
  for (std::size_t i = 0; i < models.size(); ++i) {
    load(models[i]);
    const auto tokens = byte_tokens(70);
    // Weights of 8 bits: products round their other side to 8 bits, too, each in its own way.
    const double limit_here = models[i].type == GGML_TYPE_Q8_0 ? 1e-3 : limit();
    EXPECT_LE(nmse(whole(*device_, tokens), whole(*cpu_, tokens)), limit_here) << "model " << i;
  }
}

TEST_P(DeviceEngineTest, LogitsAreTheCpusForEveryTypeOfKv) {
  load({.n_heads = 4, .n_kv_heads = 2, .head_dim = 32});
  const auto tokens = byte_tokens(70);
  const auto want = whole(*cpu_, tokens, KvType::kF32);
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kBf16, KvType::kQ8})
    EXPECT_LE(nmse(whole(*device_, tokens, type), want), type == KvType::kF32 ? limit() : 1e-3) << to_string(type);
}

TEST_P(DeviceEngineTest, DecodingTokenByTokenEqualsTheWhole) {
  load({.architecture = "qwen3"});
  const auto tokens = byte_tokens(24);
  const auto own = segment(24);
  std::vector<float> last;
  for (int i = 0; i < 24; ++i) {
    const SequenceChunk chunk{.own = own, .own_length = i, .n_tokens = 1};
    last = forward(*device_, std::span(tokens).subspan(static_cast<std::size_t>(i), 1), {&chunk, 1});
    EXPECT_EQ(own->length(), i + 1);
  }
  EXPECT_LE(nmse(last, whole(*cpu_, tokens)), limit());
}

TEST_P(DeviceEngineTest, AContextComputedThereIsUsedHere) {
  load({.architecture = "qwen2", .n_layers = 3, .n_ctx = 2048});
  const auto tokens = byte_tokens(600);  // two steps
  const auto question = byte_tokens(9, 5);
  const auto want = behind(*cpu_, context_of(*cpu_, tokens), question);
  EXPECT_LE(nmse(behind(*cpu_, imported(*device_, tokens), question), want), limit()) << "device to CPU";
  EXPECT_LE(nmse(behind(*device_, imported(*cpu_, tokens), question), want), limit()) << "CPU to device";
  EXPECT_LE(nmse(behind(*device_, context_of(*device_, tokens), question), want), limit()) << "device alone";
}

// Whoever hands layers on looks after each call whether one is complete.
TEST_P(DeviceEngineTest, NoCallEndsTwoLayers) {
  load({.n_layers = 3});
  auto prefill = ContextPrefill::start(*device_, byte_tokens(20), segment(20)).value();
  for (int done = 0; !prefill.finished(); done = prefill.layers_done()) {
    ASSERT_TRUE(prefill.advance());
    EXPECT_LE(prefill.layers_done(), done + 1);
  }
}

// What a box keeps of a context that it computed is what another box gets from the pack, bit by bit.
TEST_P(DeviceEngineTest, TheHostsRowsAreThoseOfAPack) {
  load({.architecture = "qwen2"});
  const auto tokens = byte_tokens(40);
  const auto computed = context_of(*device_, tokens);
  const auto fetched = imported(*device_, tokens);
  const std::size_t n_bytes = 40 * row_bytes(KvType::kF16, here_->config().head_dim) * 2;  // KV heads
  for (int layer = 0; layer < here_->config().n_layers; ++layer) {
    EXPECT_EQ(std::memcmp(computed->view(layer).k, fetched->view(layer).k, n_bytes), 0) << layer;
    EXPECT_EQ(std::memcmp(computed->view(layer).v, fetched->view(layer).v, n_bytes), 0) << layer;
  }
}

TEST_P(DeviceEngineTest, ABatchOfUsersEqualsEachAlone) {
  load({.n_heads = 6, .n_kv_heads = 3, .head_dim = 16});
  const auto a = context_of(*cpu_, byte_tokens(33, 5));
  const auto b = context_of(*cpu_, byte_tokens(20, 6));
  const std::vector<std::shared_ptr<KvSegment>> uses = {a, a, b, nullptr, nullptr, a};
  const std::vector<int> lengths = {1, 5, 1, 3, 1, 300};  // the last one grows beyond what own rows begin with
  std::vector<SequenceChunk> batch;
  std::vector<Token> all;
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const auto suffix = byte_tokens(lengths[i], 20 + static_cast<int>(i));
    batch.push_back({.context = uses[i], .own = segment(310, uses[i] ? uses[i]->length() : 0), .n_tokens = lengths[i]});
    all.insert(all.end(), suffix.begin(), suffix.end());
  }
  const auto together = forward(*device_, all, batch);
  const std::size_t width = together.size() / uses.size();
  for (std::size_t i = 0; i < uses.size(); ++i) {
    SequenceChunk alone = batch[i];
    alone.own = segment(310, alone.own->first_position());
    const auto want = forward(*cpu_, byte_tokens(lengths[i], 20 + static_cast<int>(i)), {&alone, 1});
    EXPECT_LE(nmse(std::span(together).subspan(i * width, width), want), limit()) << i;
  }
}

TEST_P(DeviceEngineTest, PartOfAContextIsTheContextOfThoseTokens) {
  load({});
  const auto tokens = byte_tokens(80);
  const auto context = context_of(*cpu_, tokens);
  for (const int rows : {0, 1, 50, 80}) {
    const SequenceChunk chunk{.context = context, .own = segment(8, rows), .n_tokens = 4, .context_rows = rows};
    SequenceChunk again = chunk;
    again.own = segment(8, rows);
    const auto question = byte_tokens(4, 3);
    EXPECT_LE(nmse(forward(*device_, question, {&chunk, 1}), forward(*cpu_, question, {&again, 1})), limit()) << rows;
  }
}

TEST_P(DeviceEngineTest, ACondensedContextIsReadWithItsLogMasses) {
  load({});
  const ModelConfig& config = here_->config();
  const int n_rows = 12;
  CondensedKv kv{.n_rows = n_rows, .n_tokens = 40, .layers = {}};
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int i = 0; i < config.n_layers; ++i) {
    CondensedLayer layer;
    for (int n = 0; n < n_rows * config.kv_width(); ++n) {
      layer.k.push_back(normal(random));
      layer.v.push_back(normal(random));
    }
    for (int n = 0; n < n_rows * config.n_kv_heads; ++n) {
      layer.positions.push_back(n * 3 % 40);
      layer.log_mass.push_back(normal(random));
    }
    kv.layers.push_back(std::move(layer));
  }
  const auto context = condensed_segment(*here_, KvType::kF16, kv).value();
  EXPECT_LE(nmse(behind(*device_, context, byte_tokens(7)), behind(*cpu_, context, byte_tokens(7))), limit());
}

TEST_P(DeviceEngineTest, ATunedContextIsTheCpus) {
  load({.architecture = "qwen2"});
  auto tuning = std::make_shared<KvTuning>();
  tuning->n_layers = here_->config().n_layers;
  tuning->kv_width = here_->config().kv_width();
  tuning->k.assign(static_cast<std::size_t>(tuning->n_layers * tuning->kv_width), 0.25F);
  tuning->v.assign(tuning->k.size(), -0.5F);
  const auto tokens = byte_tokens(50);
  const auto got = behind(*device_, context_of(*device_, tokens, {}, tuning), byte_tokens(6));
  EXPECT_LE(nmse(got, behind(*cpu_, context_of(*cpu_, tokens, {}, tuning), byte_tokens(6))), limit());
  EXPECT_GT(nmse(got, behind(*cpu_, context_of(*cpu_, tokens), byte_tokens(6))), limit()) << "without the tuning";
}

TEST_P(DeviceEngineTest, SomeLayersStayOnTheCpu) {
  load({.n_layers = 4, .n_ctx = 2048}, 2);
  const auto tokens = byte_tokens(600);
  EXPECT_LE(nmse(whole(*device_, byte_tokens(60)), whole(*cpu_, byte_tokens(60))), limit());
  EXPECT_LE(nmse(behind(*device_, context_of(*device_, tokens), byte_tokens(5)),
                 behind(*cpu_, context_of(*cpu_, tokens), byte_tokens(5))),
            limit());
  EXPECT_EQ(there_->fingerprint().arithmetic, Arithmetic::kDevice);
}

// Rows that somebody else wrote into a segment which the device has used: a prefix of another conversation, a block.
TEST_P(DeviceEngineTest, RowsWrittenByOthersAreReadAgain) {
  load({});
  const auto own = segment(40);
  const SequenceChunk first{.own = own, .n_tokens = 20};
  (void)forward(*device_, byte_tokens(20, 1), {&first, 1});
  const auto other = segment(40);
  const SequenceChunk same{.own = other, .n_tokens = 20};
  (void)forward(*cpu_, byte_tokens(20, 2), {&same, 1});
  own->copy_from(*other, 20);
  const SequenceChunk next{.own = own, .own_length = 20, .n_tokens = 3};
  const SequenceChunk expected{.own = other, .own_length = 20, .n_tokens = 3};
  EXPECT_LE(nmse(forward(*device_, byte_tokens(3), {&next, 1}), forward(*cpu_, byte_tokens(3), {&expected, 1})), limit());
}

TEST_P(DeviceEngineTest, ASuffixThatWasTakenBackIsForgotten) {
  load({});
  const auto own = segment(40);
  const SequenceChunk first{.own = own, .n_tokens = 20};
  (void)forward(*device_, byte_tokens(20, 1), {&first, 1});
  const SequenceChunk again{.own = own, .own_length = 10, .n_tokens = 5};
  auto sequence = byte_tokens(20, 1);
  sequence.resize(10);
  sequence.append_range(byte_tokens(5, 7));
  EXPECT_LE(nmse(forward(*device_, byte_tokens(5, 7), {&again, 1}), whole(*cpu_, sequence)), limit());
}

TEST_P(DeviceEngineTest, TheFingerprintSaysWhoComputes) {
  load({});
  EXPECT_EQ(there_->fingerprint().arithmetic, Arithmetic::kDevice);
  EXPECT_EQ(there_->cpu_arithmetic(), here_->fingerprint().arithmetic);
  EXPECT_EQ(there_->fingerprint().id(), here_->fingerprint().id());
}

TEST_P(DeviceEngineTest, AttentionOfADevicesLayerIsRefused) {
  load({.n_layers = 3}, 2);
  const SequenceChunk chunk{.own = segment(4), .n_tokens = 4};
  Hidden hidden = device_->embed(byte_tokens(4)).value();
  EXPECT_THAT(device_->attention_output(1, {&chunk, 1}, hidden).error().message,
              HasSubstr("load the model with --device cpu"));
  EXPECT_THAT(device_->run_layer_for_queries(0, {&chunk, 1}, hidden).error().message, HasSubstr("--device cpu"));
  EXPECT_TRUE(device_->attention_output(2, {&chunk, 1}, hidden));
}

TEST_P(DeviceEngineTest, AModelThatHasNoRoomIsRefusedWithBothSizes) {
  write_random_model(folder_ / "m.gguf", {});
  const auto refused = Model::load(folder_ / "m.gguf", {.device = GetParam(), .device_bytes = 10'000});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kOverloaded);
  EXPECT_THAT(refused.error().message, HasSubstr("2 of 2 layers needs 0."));
  EXPECT_THAT(refused.error().message, HasSubstr("0.0 MB are free"));
}

TEST_P(DeviceEngineTest, MemoryThatEndsInTheMiddleFailsTheBatchAndNothingElse) {
  load({.n_ctx = 20'000}, 1000, 2'000'000);
  const auto small = segment(100);
  const SequenceChunk fits{.own = small, .n_tokens = 10};
  const auto before = forward(*device_, byte_tokens(10), {&fits, 1});
  const auto large = segment(16'000);
  const SequenceChunk too_large{.own = large, .own_length = 15'000, .n_tokens = 10};
  const auto refused = device_->forward(byte_tokens(10), {&too_large, 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kOverloaded);
  EXPECT_THAT(refused.error().message, HasSubstr("own tokens needs"));
  EXPECT_EQ(large->length(), 0);
  EXPECT_EQ(forward(*device_, byte_tokens(10), {&fits, 1}), before);
}

TEST_P(DeviceEngineTest, AModelWithWhatDevicesDoNotComputeIsRefusedByName) {
  write_random_model(folder_ / "m.gguf", {.architecture = "qwen3moe"});
  const auto refused = Model::load(folder_ / "m.gguf", {.device = GetParam()});
  EXPECT_EQ(refused.error().kind, ErrorKind::kUnavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("qwen3moe models have mixtures of experts"));
}

TEST_P(DeviceEngineTest, AnUnknownDeviceIsRefused) {
  write_random_model(folder_ / "m.gguf", {});
  const auto refused = Model::load(folder_ / "m.gguf", {.device = "CUDA77"});
  EXPECT_EQ(refused.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(refused.error().message, HasSubstr("no device 'CUDA77' here"));
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceEngineTest, testing::Values("CPU", "Vulkan0"),
                         [](const auto& suite) { return suite.param; });

}  // namespace
}  // namespace celslm
