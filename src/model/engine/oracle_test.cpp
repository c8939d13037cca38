// The same GGUF, the same tokens: our logits against libllama's, over every feature of the supported families.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "model/engine/engine.h"
#include "model/numeric/logits.h"
#include "tests/support/llama_oracle.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing_support::LlamaOracle;
using testing_support::nmse;
using testing_support::RandomModel;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

struct Case {
  const char* name;
  RandomModel model;
  double limit = 1e-6;
};

std::vector<Token> some_tokens(int n, int n_vocab) {
  std::vector<Token> out;
  for (int i = 0; i < n; ++i) out.push_back((i * 37 + 11) % n_vocab);
  return out;
}

std::vector<float> our_logits(const std::shared_ptr<const Model>& model, std::span<const Token> tokens, KernelPath path) {
  auto engine = Engine::create(model, {.n_threads = 1, .kernels = path}).value();
  auto own = KvSegment::create(model->config(), KvType::kF32, 0, static_cast<int>(tokens.size())).value();
  Hidden hidden = engine->embed(tokens).value();
  const SequenceChunk chunk{.own = own, .n_tokens = hidden.n_tokens};
  const auto status = engine->run_layers(0, model->config().n_layers, {&chunk, 1}, hidden);
  if (!status) throw std::runtime_error(status.error().message);
  std::vector<int> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  const auto logits = engine->logits(hidden, rows).value();
  return {logits.begin(), logits.end()};
}

class OracleTest : public testing::TestWithParam<Case> {};

TEST_P(OracleTest, LogitsAgreeWithLibllama) {
  const TemporaryFolder folder;
  write_random_model(folder / "m.gguf", GetParam().model);
  const auto model = Model::load(folder / "m.gguf");
  ASSERT_TRUE(model) << model.error().message;
  LlamaOracle oracle(folder / "m.gguf");
  const auto tokens = some_tokens(150, (*model)->config().n_vocab);
  const auto want = oracle.logits(tokens);
  EXPECT_LE(nmse(our_logits(*model, tokens, KernelPath::kPlain), want), GetParam().limit);
  EXPECT_LE(nmse(our_logits(*model, tokens, KernelPath::kFused), want), GetParam().limit);
}

const Case kCases[] = {
    {"Llama", {}},
    {"LlamaWithOneKvHead", {.n_heads = 8, .n_kv_heads = 1}},
    {"LlamaWithoutGroups", {.n_heads = 4, .n_kv_heads = 4}},
    {"LlamaWithOddSizes", {.n_layers = 3, .n_embd = 42, .n_heads = 3, .n_kv_heads = 3, .n_ff = 31, .n_filler = 6}},
    {"LlamaWithHeadsOfTheirOwnSize", {.head_dim = 24}},
    {"LlamaTied", {.tied = true}},
    {"LlamaWithBias", {.qkv_bias = true}},
    {"LlamaLinearScaling", {.rope_scaling = "linear", .rope_factor = 4.0F}},
    {"LlamaNoScalingDespiteAFactor", {.rope_scaling = "none", .rope_factor = 4.0F}},
    {"LlamaScalingFactorWithoutAType", {.rope_factor = 2.0F}},
    {"LlamaFrequencyFactors", {.rope_base = 500000.0F, .frequency_factors = true}},
    {"LlamaYarn", {.rope_scaling = "yarn", .rope_factor = 4.0F, .rope_original_context = 64}},
    {"LlamaYarnWithAttentionFactor",
     {.rope_scaling = "yarn", .rope_factor = 8.0F, .rope_original_context = 32, .yarn_attn_factor = 0.8F}},
    {"LlamaYarnWithFrequencyFactors",
     {.rope_scaling = "yarn", .rope_factor = 4.0F, .rope_original_context = 64, .frequency_factors = true}},
    {"Qwen2", {.architecture = "qwen2", .rope_base = 1e6F}},
    {"Qwen2WithALargeKeyBias", {.architecture = "qwen2", .key_bias = 70.0F, .rope_base = 1e6F}, 1e-5},
    {"Qwen2Tied", {.architecture = "qwen2", .n_heads = 4, .n_kv_heads = 1, .tied = true}},
    {"Qwen2Yarn",
     {.architecture = "qwen2",
      .rope_base = 1e6F,
      .rope_scaling = "yarn",
      .rope_factor = 4.0F,
      .rope_original_context = 128}},
    {"Qwen2Linear", {.architecture = "qwen2", .rope_scaling = "linear", .rope_factor = 2.0F}},
    {"Qwen3", {.architecture = "qwen3", .rope_base = 1e6F}},
    {"Qwen3WithHeadsOfTheirOwnSize",
     {.architecture = "qwen3", .n_embd = 48, .n_heads = 6, .n_kv_heads = 2, .head_dim = 32, .tied = true}},
    {"Qwen3Yarn", {.architecture = "qwen3", .rope_scaling = "yarn", .rope_factor = 2.0F, .rope_original_context = 100}},
    {"LlamaF16", {.type = GGML_TYPE_F16}, 1e-4},
    {"LlamaQ8_0", {.n_ff = 128, .type = GGML_TYPE_Q8_0}, 1e-3},
    {"LlamaQ4_0", {.n_ff = 128, .type = GGML_TYPE_Q4_0}, 1e-3},
    {"Qwen2Q4_0Tied", {.architecture = "qwen2", .n_ff = 128, .type = GGML_TYPE_Q4_0, .tied = true}, 1e-3},
    {"Qwen3Q8_0", {.architecture = "qwen3", .n_ff = 128, .type = GGML_TYPE_Q8_0}, 1e-3},
};

INSTANTIATE_TEST_SUITE_P(Features, OracleTest, testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

// Every type that llama-quantize makes, repacked by the backend or not.
class WeightTypeTest : public testing::TestWithParam<ggml_type> {};

TEST_P(WeightTypeTest, LogitsAgreeWithLibllama) {
  const TemporaryFolder folder;
  const RandomModel model{.n_layers = 1, .n_embd = 256, .n_ff = 256, .n_filler = 7, .type = GetParam()};  // 272 tokens
  write_random_model(folder / "m.gguf", model);
  LlamaOracle oracle(folder / "m.gguf");
  const auto tokens = some_tokens(19, 272);
  const auto want = oracle.logits(tokens);
  for (const bool repack : {true, false}) {
    const auto loaded = Model::load(folder / "m.gguf", {.repack = repack});
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_LE(nmse(our_logits(*loaded, tokens, KernelPath::kFused), want), 1e-3) << repack;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, WeightTypeTest,
                         testing::Values(GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                         GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q8_0, GGML_TYPE_Q2_K, GGML_TYPE_Q3_K,
                                         GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_IQ2_XXS, GGML_TYPE_IQ2_XS,
                                         GGML_TYPE_IQ3_XXS, GGML_TYPE_IQ1_S, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ3_S,
                                         GGML_TYPE_IQ2_S, GGML_TYPE_IQ4_XS, GGML_TYPE_IQ1_M, GGML_TYPE_TQ1_0,
                                         GGML_TYPE_TQ2_0, GGML_TYPE_MXFP4),
                         [](const auto& test) { return std::string(ggml_type_name(test.param)); });

class DemoModelTest : public testing::TestWithParam<const char*> {
 protected:
  static std::filesystem::path path() {
    return std::filesystem::path("models") / fmt::format("celslm-demo-{}-f16.gguf", GetParam());
  }
};

// Trained weights, the KV types that people use, text prompts: the tokens themselves.
TEST_P(DemoModelTest, SixtyFourGreedyTokensAreLibllamas) {
  const auto model = Model::load(path());
  ASSERT_TRUE(model) << model.error().message;
  const Text& text = (*model)->text();
  for (const auto& [kv, peer_kv] : {std::pair{KvType::kF32, GGML_TYPE_F32}, {KvType::kF16, GGML_TYPE_F16}}) {
    LlamaOracle oracle(path(), peer_kv);
    const auto engine = Engine::create(*model, {.n_threads = 1}).value();
    for (const std::string_view prompt : {"The", "In the morning the old ", "Q: Where is the key?\nA:"}) {
      std::vector<Token> next = text.tokenize(prompt, true, false);
      const auto want = oracle.greedy(next, 64);
      const auto own = KvSegment::create((*model)->config(), kv, 0, 128).value();
      std::vector<Token> got;
      while (got.size() < 64) {
        const SequenceChunk chunk{.own = own, .own_length = own->length(), .n_tokens = static_cast<int>(next.size())};
        next = {static_cast<Token>(argmax(engine->forward(next, {&chunk, 1}).value()))};
        got.push_back(next.front());
      }
      EXPECT_EQ(text.detokenize(got, true), text.detokenize(want, true)) << prompt << " " << to_string(kv);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Family, DemoModelTest, testing::Values("small", "large"));

}  // namespace
}  // namespace celslm
