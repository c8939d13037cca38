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
    {"Gemma3",
     {.architecture = "gemma3", .n_layers = 7, .head_dim = 32, .tied = true, .keys = {{"attention.sliding_window", 32}}}},
    {"Gemma3WithoutAWindow", {.architecture = "gemma3", .head_dim = 32, .rope_base = 1e6F}},
    {"Gemma3Scaled",
     {.architecture = "gemma3",
      .n_layers = 6,
      .rope_base = 1e6F,
      .rope_scaling = "linear",
      .rope_factor = 8.0F,
      .keys = {{"attention.sliding_window", 17}}}},
    {"Gemma3WithAPatternAndABaseOfItsOwn",
     {.architecture = "gemma3",
      .n_layers = 5,
      .rope_base = 1e6F,
      .keys = {{"attention.sliding_window", 40},
               {"attention.sliding_window_pattern", 3},
               {"rope.freq_base_swa", 500.0F},
               {"final_logit_softcapping", 5.0F}}}},
    {"Gemma3Of62Layers",
     {.architecture = "gemma3",
      .n_layers = 62,
      .n_embd = 32,
      .n_heads = 2,
      .n_kv_heads = 1,
      .head_dim = 32,
      .n_ff = 48,
      .keys = {{"attention.sliding_window", 50}}}},
    {"SmolLm3", {.architecture = "smollm3", .n_layers = 5, .tied = true, .rope_base = 5e6F}},
    {"Mistral3", {.architecture = "mistral3", .head_dim = 32, .rope_base = 1e6F}},
    {"Mistral3WithTemperature",
     {.architecture = "mistral3",
      .rope_base = 1e6F,
      .rope_scaling = "yarn",
      .rope_factor = 16.0F,
      .rope_original_context = 32,
      .keys = {{"attention.temperature_scale", 0.1F},
               {"rope.scaling.yarn_beta_fast", 32.0F},
               {"rope.scaling.yarn_beta_slow", 1.0F},
               {"rope.scaling.yarn_log_multiplier", 1.0F}}}},
    {"Phi3", {.architecture = "phi3", .n_kv_heads = 4, .keys = {{"attention.sliding_window", 20}}}},
    {"Phi3Long",
     {.architecture = "phi3",
      .n_embd = 128,
      .rope_dimensions = 24,
      .rope_original_context = 64,
      .yarn_attn_factor = 1.19F,
      .frequency_factors = true}},
    {"Phi3LongByName",
     {.architecture = "phi3", .rope_scaling = "longrope", .rope_original_context = 64, .frequency_factors = true}},
    {"Phi3Short", {.architecture = "phi3", .rope_dimensions = 12, .frequency_factors = true}},
    {"Phi3WithSeparateProjections", {.architecture = "phi3", .tied = true, .separate_projections = true}},
    {"Phi3Q4_0", {.architecture = "phi3", .n_ff = 128, .type = GGML_TYPE_Q4_0}, 1e-3},
    {"Phi3F16", {.architecture = "phi3", .type = GGML_TYPE_F16}, 1e-4},
    {"Granite",
     {.architecture = "granite",
      .tied = true,
      .keys = {{"embedding_scale", 12.0F}, {"residual_scale", 0.22F}, {"attention.scale", 0.0625F}, {"logit_scale", 8.0F}}}},
    {"GraniteWithoutScales", {.architecture = "granite"}},
    {"GraniteWithoutRope", {.architecture = "granite", .keys = {{"rope.scaling.finetuned", false}}}},
    {"Ernie45", {.architecture = "ernie4_5", .head_dim = 32, .tied = true, .rope_base = 5e5F}},
    {"Ernie45WithBias", {.architecture = "ernie4_5", .qkv_bias = true}},
    {"HunyuanDense", {.architecture = "hunyuan-dense", .head_dim = 32, .tied = true, .rope_base = 11158840.0F}},
    {"Exaone4", {.architecture = "exaone4", .tied = true, .rope_base = 1e6F, .frequency_factors = true}},
    {"Exaone4Of64Layers",
     {.architecture = "exaone4",
      .n_layers = 64,
      .n_embd = 32,
      .n_heads = 2,
      .n_kv_heads = 1,
      .n_ff = 48,
      .keys = {{"attention.sliding_window", 24}}}},
    {"Qwen3Moe", {.architecture = "qwen3moe", .rope_base = 1e6F}},
    {"Qwen3MoeOfManyExperts", {.architecture = "qwen3moe", .n_experts = 8, .n_experts_used = 3}},
    {"Qwen3MoeOfOneExpert", {.architecture = "qwen3moe", .n_experts_used = 1}},
    {"Qwen3MoeQ8_0", {.architecture = "qwen3moe", .n_ff = 128, .type = GGML_TYPE_Q8_0}, 1e-3},
    {"GptOss",
     {.architecture = "gpt-oss",
      .n_layers = 4,
      .head_dim = 32,
      .rope_base = 150000.0F,
      .rope_scaling = "yarn",
      .rope_factor = 32.0F,
      .rope_original_context = 64,
      .keys = {{"attention.sliding_window", 32}}}},
    {"GptOssMxfp4",
     {.architecture = "gpt-oss", .n_ff = 128, .type = GGML_TYPE_MXFP4, .keys = {{"attention.sliding_window", 128}}},
     1e-3},
    {"Lfm2", {.architecture = "lfm2", .n_layers = 4, .tied = true, .rope_base = 1e6F}},
    {"Lfm2WithALongConvolution", {.architecture = "lfm2", .n_layers = 3, .attention_every = 3, .conv_tokens = 5}},
    {"Lfm2WithAShortConvolution", {.architecture = "lfm2", .n_layers = 5, .conv_tokens = 2}},
    {"Lfm2Q4_0", {.architecture = "lfm2", .n_ff = 128, .type = GGML_TYPE_Q4_0}, 1e-3},
    {"Qwen35", {.architecture = "qwen35", .n_layers = 4, .head_dim = 32, .rope_dimensions = 16, .rope_base = 1e7F}},
    {"Qwen35OfManyHeads",
     {.architecture = "qwen35",
      .n_layers = 3,
      .attention_every = 3,
      .conv_tokens = 4,
      .n_key_heads = 3,
      .n_value_heads = 6,
      .state_head_dim = 32,
      .tied = true}},
    {"Qwen35WithAsManyKeysAsValues", {.architecture = "qwen35", .n_key_heads = 4}},
    {"Qwen35Q8_0", {.architecture = "qwen35", .n_ff = 128, .type = GGML_TYPE_Q8_0}, 1e-3},
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
