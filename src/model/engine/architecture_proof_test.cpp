// For one model of every architecture: decoding behind a shared context agrees with libllama beyond the sliding window, and
// KV that leaves layer by layer comes back as the same bits and goes on to the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "model/engine/engine.h"
#include "model/engine/prefill.h"
#include "tests/support/llama_oracle.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing_support::byte_tokens;
using testing_support::LlamaOracle;
using testing_support::nmse;
using testing_support::RandomModel;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

constexpr double kLimit = 1e-6;
constexpr int kContext = 90;
constexpr int kSuffix = 40;  // tokens behind it: more than the windows
constexpr int kFirst = 3;    // of them in one chunk, the others one by one

struct Subject {
  const char* name;
  RandomModel model;
};

const Subject kSubjects[] = {
    {"llama", {}},
    {"qwen2", {.architecture = "qwen2"}},
    {"qwen3", {.architecture = "qwen3", .head_dim = 24}},
    {"gemma3",
     {.architecture = "gemma3",
      .n_layers = 6,
      .head_dim = 32,
      .rope_base = 1e6F,
      .keys = {{"attention.sliding_window", 20}, {"attention.sliding_window_pattern", 3}}}},
    {"smollm3", {.architecture = "smollm3", .n_layers = 4}},
    {"mistral3",
     {.architecture = "mistral3",
      .rope_scaling = "yarn",
      .rope_factor = 16.0F,
      .rope_original_context = 32,
      .keys = {{"attention.temperature_scale", 0.1F}, {"rope.scaling.yarn_log_multiplier", 1.0F}}}},
    {"phi3",
     {.architecture = "phi3",
      .n_embd = 128,
      .rope_dimensions = 24,
      .rope_original_context = 64,
      .yarn_attn_factor = 1.19F,
      .frequency_factors = true}},
    {"granite",
     {.architecture = "granite",
      .keys = {{"embedding_scale", 12.0F}, {"residual_scale", 0.22F}, {"attention.scale", 0.0625F}, {"logit_scale", 8.0F}}}},
    {"ernie4_5", {.architecture = "ernie4_5"}},
    {"hunyuan_dense", {.architecture = "hunyuan-dense", .head_dim = 32}},
    {"exaone4",
     {.architecture = "exaone4",
      .n_layers = 64,
      .n_embd = 32,
      .n_heads = 2,
      .n_kv_heads = 1,
      .n_ff = 48,
      .keys = {{"attention.sliding_window", 24}}}},
    {"qwen3moe", {.architecture = "qwen3moe"}},
    {"gpt_oss",
     {.architecture = "gpt-oss",
      .n_layers = 3,
      .rope_scaling = "yarn",
      .rope_factor = 32.0F,
      .rope_original_context = 64,
      .keys = {{"attention.sliding_window", 24}}}},
    {"lfm2", {.architecture = "lfm2", .n_layers = 5, .rope_base = 1e6F}},
    {"qwen35", {.architecture = "qwen35", .n_layers = 5, .attention_every = 3, .conv_tokens = 4}},
};

class ArchitectureProofTest : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    write_random_model(folder_ / "m.gguf", GetParam().model);
    auto loaded = Model::load(folder_ / "m.gguf");
    ASSERT_TRUE(loaded) << loaded.error().message;
    model_ = *loaded;
    engine_ = Engine::create(model_, {.n_threads = 2}).value();
  }

  std::shared_ptr<KvSegment> segment(KvType type, int first, int capacity) const {
    return KvSegment::create(model_->config(), type, first, capacity).value();
  }

  // The context's KV; the tap gets what a pack would hold.
  std::shared_ptr<KvSegment> context(KvType type, const ContextPrefill::Tap& tap = {}) {
    auto out = segment(type, 0, kContext);
    auto prefill = ContextPrefill::start(*engine_, tokens_, out).value();
    while (!prefill.finished()) EXPECT_TRUE(prefill.advance(tap));
    return out;
  }

  static std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

  // Logits of each token of the suffix from the end of the first chunk on.
  static std::vector<std::vector<float>> decode(Engine& engine, const std::shared_ptr<KvSegment>& context,
                                                const std::shared_ptr<KvSegment>& own, std::span<const Token> suffix) {
    std::vector<std::vector<float>> out;
    for (int done = 0; done < std::ssize(suffix);) {
      const int n = done == 0 ? kFirst : 1;
      const SequenceChunk chunk{.context = context, .own = own, .own_length = done, .n_tokens = n};
      const auto next = suffix.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n));
      out.push_back(copy(engine.forward(next, {&chunk, 1}).value()));
      done += n;
    }
    return out;
  }

  // Logits of the suffix's last token, each layer computed when the context has it.
  std::vector<float> by_layer(const std::shared_ptr<KvSegment>& context, std::span<const Token> suffix) {
    const auto n = static_cast<int>(suffix.size());
    const SequenceChunk chunk{.context = context, .own = segment(KvType::kF16, kContext, n), .n_tokens = n};
    Hidden hidden = engine_->embed(suffix).value();
    for (int layer = 0; layer < model_->config().n_layers; ++layer)
      EXPECT_TRUE(engine_->run_layers(layer, layer + 1, {&chunk, 1}, hidden));
    const std::vector<int> last = {n - 1};
    return copy(engine_->logits(hidden, last).value());
  }

  // libllama's logits of the sequence, for the same tokens as decode().
  std::vector<std::vector<float>> wanted(std::span<const Token> suffix) const {
    std::vector<Token> all = tokens_;
    all.insert(all.end(), suffix.begin(), suffix.end());
    LlamaOracle oracle(folder_ / "m.gguf");
    const auto logits = oracle.logits(all);
    const auto n_vocab = static_cast<std::size_t>(model_->config().n_vocab);
    std::vector<std::vector<float>> out;
    for (std::size_t row = kContext + kFirst - 1; row < all.size(); ++row)
      out.emplace_back(copy(std::span(logits).subspan(row * n_vocab, n_vocab)));
    return out;
  }

  TemporaryFolder folder_;
  const std::vector<Token> tokens_ = byte_tokens(kContext, 11);
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Engine> engine_;
};

INSTANTIATE_TEST_SUITE_P(All, ArchitectureProofTest, testing::ValuesIn(kSubjects),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ArchitectureSubjectsTest, ThereIsOneForEveryArchitecture) {
  EXPECT_EQ(std::size(kSubjects), all_architectures().size());
}

TEST_P(ArchitectureProofTest, DecodesBehindAContextAsLibllama) {
  const auto suffix = byte_tokens(kSuffix, 5);
  const auto want = wanted(suffix);
  for (const KernelPath path : {KernelPath::kFused, KernelPath::kPlain}) {
    const auto engine = Engine::create(model_, {.n_threads = 2, .kernels = path}).value();
    const auto got = decode(*engine, context(KvType::kF32), segment(KvType::kF32, kContext, kSuffix), suffix);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i)
      EXPECT_LE(nmse(got[i], want[i]), kLimit) << (path == KernelPath::kPlain ? "plain " : "fused ") << i;
  }
}

// Users at different places behind one context, in one batch.
TEST_P(ArchitectureProofTest, ServesManyUsersOfOneContextAsEachAlone) {
  const auto shared = context(KvType::kF16);
  std::vector<SequenceChunk> batch;
  std::vector<Token> last;
  std::vector<std::vector<float>> want;
  for (const int n : {1, 12, 33}) {
    const auto suffix = byte_tokens(kFirst + n, n);
    const auto alone = segment(KvType::kF16, kContext, kSuffix);
    want.push_back(decode(*engine_, shared, alone, suffix).back());
    auto own = segment(KvType::kF16, kContext, kSuffix);
    if (model_->config().has_states()) {  // which alone's are not any more, that far back
      decode(*engine_, shared, own, std::span(suffix).first(suffix.size() - 1));
    } else {
      own->copy_from(*alone, kFirst + n - 1);
    }
    batch.push_back({.context = shared, .own = own, .own_length = kFirst + n - 1, .n_tokens = 1});
    last.push_back(suffix.back());
  }
  const auto together = engine_->forward(last, batch).value();
  const auto n_vocab = static_cast<std::size_t>(model_->config().n_vocab);
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_LE(nmse(together.subspan(i * n_vocab, n_vocab), want[i]), 1e-10) << i;
}

TEST_P(ArchitectureProofTest, GoesOnWithTheSameBitsFromKvThatArrivedLayerByLayer) {
  const ModelConfig& config = model_->config();
  const auto imported = segment(KvType::kF16, 0, kContext);
  const auto width = static_cast<std::size_t>(config.kv_width());
  const auto local = context(KvType::kF16, [&](int layer, int first_row, auto k, auto v) {
    if (config.state_values(layer) > 0) {
      ASSERT_TRUE(Engine::import_state(*model_, *imported, layer, kContext, k));
      return;
    }
    const auto n = static_cast<int>(k.size() / width);
    ASSERT_TRUE(Engine::import_rows(*model_, *imported, layer, first_row, n, k, v));
  });
  imported->set_length(kContext);
  const std::size_t n_bytes = row_bytes(KvType::kF16, config.head_dim) * static_cast<std::size_t>(kContext) *
                              static_cast<std::size_t>(config.n_kv_heads);
  for (int layer = 0; layer < config.n_layers; ++layer) {
    EXPECT_TRUE(std::ranges::equal(std::as_const(*local).state(layer), std::as_const(*imported).state(layer))) << layer;
    if (!local->has_rows(layer)) continue;
    EXPECT_EQ(std::memcmp(local->view(layer).k, imported->view(layer).k, n_bytes), 0) << "K of layer " << layer;
    EXPECT_EQ(std::memcmp(local->view(layer).v, imported->view(layer).v, n_bytes), 0) << "V of layer " << layer;
  }

  const auto suffix = byte_tokens(7, 3);
  EXPECT_EQ(by_layer(imported, suffix), by_layer(local, suffix));
}

}  // namespace
}  // namespace celslm
