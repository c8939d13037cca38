#include "model/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <numeric>
#include <thread>

#include "model/attention/attention.h"
#include "model/kv/kv_rows.h"
#include "model/numeric/logits.h"
#include "tests/support/llama_oracle.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::byte_tokens;
using testing_support::LlamaOracle;
using testing_support::nmse;
using testing_support::RandomModel;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

constexpr double kSame = 1e-10;  // NMSE of two f32 computations of one thing

std::span<const float> row_of(const std::vector<float>& rows, std::size_t i, std::size_t n_rows) {
  return std::span(rows).subspan(i * (rows.size() / n_rows), rows.size() / n_rows);
}

std::vector<float> copy_of(std::span<const float> values) {
  return {values.begin(), values.end()};
}

class EngineTest : public testing::TestWithParam<KernelPath> {
 protected:
  void load(const RandomModel& model) {
    write_random_model(folder_ / "m.gguf", model);
    auto loaded = Model::load(folder_ / "m.gguf");
    ASSERT_TRUE(loaded) << loaded.error().message;
    model_ = *loaded;
    engine_ = new_engine();
  }

  std::unique_ptr<Engine> new_engine(int n_threads = 1) const {
    return Engine::create(model_, {.n_threads = n_threads, .kernels = path()}).value();
  }
  virtual KernelPath path() const { return GetParam(); }

  std::shared_ptr<KvSegment> segment(int capacity, int first = 0, KvType type = KvType::kF32) const {
    return KvSegment::create(model_->config(), type, first, capacity).value();
  }

  int n_layers() const { return model_->config().n_layers; }

  std::vector<float> forward(std::span<const Token> tokens, std::span<const SequenceChunk> batch) const {
    return copy_of(engine_->forward(tokens, batch).value());
  }

  // Logits of the last token of a sequence that is computed at once.
  std::vector<float> whole(std::span<const Token> tokens) {
    const SequenceChunk chunk{.own = segment(static_cast<int>(tokens.size())), .n_tokens = static_cast<int>(tokens.size())};
    return forward(tokens, {&chunk, 1});
  }

  // A frozen context of these tokens.
  std::shared_ptr<KvSegment> context_of(std::span<const Token> tokens, KvType type = KvType::kF32) {
    auto own = segment(static_cast<int>(tokens.size()), 0, type);
    const SequenceChunk chunk{.own = own, .n_tokens = static_cast<int>(tokens.size())};
    EXPECT_TRUE(engine_->forward(tokens, {&chunk, 1}));
    return own;
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(EngineTest, PrefillInChunksEqualsTheWhole) {
  load({});
  const auto tokens = byte_tokens(50);
  auto own = segment(64);
  std::vector<float> last;
  for (int done = 0; done < 50;) {
    const int n = std::min(17, 50 - done);
    const SequenceChunk chunk{.own = own, .own_length = done, .n_tokens = n};
    last = forward(std::span(tokens).subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n)), {&chunk, 1});
    done += n;
    EXPECT_EQ(own->length(), done);
  }
  EXPECT_LE(nmse(last, whole(tokens)), kSame);
}

TEST_P(EngineTest, ABatchOfSequencesEqualsEachAlone) {
  load({.architecture = "qwen2", .n_heads = 8, .n_kv_heads = 2});
  const std::vector<std::vector<Token>> sequences = {byte_tokens(9, 1), byte_tokens(1, 2), byte_tokens(30, 3)};
  std::vector<SequenceChunk> batch;
  std::vector<Token> all;
  for (const auto& s : sequences) {
    batch.push_back({.own = segment(40), .n_tokens = static_cast<int>(s.size())});
    all.insert(all.end(), s.begin(), s.end());
  }
  const auto together = forward(all, batch);
  for (std::size_t i = 0; i < sequences.size(); ++i)
    EXPECT_LE(nmse(row_of(together, i, 3), whole(sequences[i])), kSame) << i;
}

TEST_P(EngineTest, ContextAndSuffixEqualOneSequence) {
  load({.architecture = "qwen3"});
  const auto tokens = byte_tokens(60);
  const auto context = context_of(std::span(tokens).first(45));
  const SequenceChunk chunk{.context = context, .own = segment(20, 45), .n_tokens = 15};
  const auto got = forward(std::span(tokens).subspan(45), {&chunk, 1});
  EXPECT_LE(nmse(got, whole(tokens)), kSame);
}

// Beside the complete context, so that rows of one batch see different lengths of it.
TEST_P(EngineTest, PartOfAContextIsTheContextOfThoseTokens) {
  load({.architecture = "qwen3"});
  const auto tokens = byte_tokens(200);
  const auto context = context_of(std::span(tokens).first(180));
  const auto suffix = byte_tokens(10, 99);
  std::vector<Token> all;
  std::vector<SequenceChunk> batch;
  const std::vector<int> lengths = {150, 180, 1, 0, 128};
  for (const int length : lengths) {
    batch.push_back({.context = context, .own = segment(10, length), .n_tokens = 10, .context_rows = length});
    all.insert(all.end(), suffix.begin(), suffix.end());
  }
  const auto together = forward(all, batch);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    std::vector<Token> sequence(tokens.begin(), tokens.begin() + lengths[i]);
    sequence.insert(sequence.end(), suffix.begin(), suffix.end());
    EXPECT_LE(nmse(row_of(together, i, lengths.size()), whole(sequence)), kSame) << lengths[i];
  }
}

// Chunks of two contexts and of none, deliberately not in order of context.
TEST_P(EngineTest, ABatchOverSharedContextsEqualsEachSequenceAlone) {
  load({.n_heads = 6, .n_kv_heads = 3, .head_dim = 16});
  const std::vector<std::vector<Token>> contexts = {byte_tokens(33, 5), byte_tokens(20, 6), {}};
  const auto a = context_of(contexts[0]);
  const auto b = context_of(contexts[1]);
  const std::vector<std::size_t> uses = {0, 1, 0, 2, 1, 0};
  std::vector<SequenceChunk> batch;
  std::vector<Token> all;
  std::vector<std::vector<Token>> sequences;
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const auto suffix = byte_tokens(1 + static_cast<int>(i), 20 + static_cast<int>(i));
    const auto context = uses[i] == 0 ? a : uses[i] == 1 ? b : nullptr;
    batch.push_back({.context = context,
                     .own = segment(10, context == nullptr ? 0 : context->length()),
                     .n_tokens = static_cast<int>(suffix.size())});
    all.insert(all.end(), suffix.begin(), suffix.end());
    sequences.push_back(contexts[uses[i]]);
    sequences.back().insert(sequences.back().end(), suffix.begin(), suffix.end());
  }
  const auto together = forward(all, batch);
  for (std::size_t i = 0; i < uses.size(); ++i)
    EXPECT_LE(nmse(row_of(together, i, uses.size()), whole(sequences[i])), kSame) << i;
}

TEST_P(EngineTest, AContextInEightBitsIsCloseToOneInF32) {
  load({.n_heads = 4, .n_kv_heads = 2, .head_dim = 32});
  const auto tokens = byte_tokens(90);
  for (const int n_context : {1, 33, 80}) {
    const auto n = static_cast<std::size_t>(n_context);
    const auto context = context_of(std::span(tokens).first(n), KvType::kQ8);
    const SequenceChunk chunk{.context = context, .own = segment(90, n_context, KvType::kF16), .n_tokens = 90 - n_context};
    EXPECT_LE(nmse(forward(std::span(tokens).subspan(n), {&chunk, 1}), whole(tokens)), 1e-3) << n_context;
  }
}

TEST_P(EngineTest, EightBitsNeedHeadsOfWholeBlocks) {
  load({.n_heads = 6, .n_kv_heads = 3, .head_dim = 16});
  EXPECT_THAT(KvSegment::create(model_->config(), KvType::kQ8, 0, 8).error().message, HasSubstr("32"));
}

TEST_P(EngineTest, LayersRunInAnySplitGiveTheSameBits) {
  load({.n_layers = 4});
  const auto tokens = byte_tokens(21);
  const auto run = [&](std::initializer_list<int> cuts) {
    const SequenceChunk chunk{.own = segment(21, 0, KvType::kF16), .n_tokens = 21};
    Hidden hidden = engine_->embed(tokens).value();
    int first = 0;
    for (const int cut : cuts) {
      EXPECT_TRUE(engine_->run_layers(first, cut, {&chunk, 1}, hidden));
      first = cut;
    }
    return hidden.values;
  };
  const auto at_once = run({4});
  EXPECT_EQ(run({1, 2, 3, 4}), at_once);
  EXPECT_EQ(run({3, 4}), at_once);
  EXPECT_EQ(run({0, 2, 2, 4}), at_once);
}

TEST_P(EngineTest, ForwardEqualsEmbedLayersAndLogits) {
  load({.tied = true});
  const auto tokens = byte_tokens(12);
  const SequenceChunk chunk{.own = segment(12), .n_tokens = 12};
  Hidden hidden = engine_->embed(tokens).value();
  ASSERT_TRUE(engine_->run_layers(0, n_layers(), {&chunk, 1}, hidden));
  EXPECT_LE(nmse(copy_of(engine_->logits(hidden, std::array{11}).value()), whole(tokens)), kSame);
}

TEST_P(EngineTest, ALayersQueriesLeadToItsAttention) {
  load({.architecture = "qwen2"});
  const ModelConfig& config = model_->config();
  const auto tokens = byte_tokens(20);
  const auto context = context_of(std::span(tokens).first(12));
  const SequenceChunk chunk{.context = context, .own = segment(8, 12), .n_tokens = 8};
  const auto fused = Engine::create(model_, {.n_threads = 1, .kernels = KernelPath::kFused}).value();
  Hidden hidden = engine_->embed(std::span(tokens).subspan(12)).value();
  for (int layer = 0; layer < n_layers(); ++layer) {
    const auto expected = fused->attention_output(layer, {&chunk, 1}, hidden).value();
    Hidden plainly = hidden;
    ASSERT_TRUE(engine_->run_layers(layer, layer + 1, {&chunk, 1}, plainly));
    const auto queries = engine_->run_layer_for_queries(layer, {&chunk, 1}, hidden).value();
    EXPECT_EQ(hidden.values, plainly.values) << "the layer's output";
    KvView own = chunk.own->view(layer);
    own.length = 8;
    std::vector<float> out(queries.size());
    const std::array groups{AttentionGroup{.kv = context->view(layer), .n_rows = 8, .visible = 12},
                            AttentionGroup{.kv = own, .n_rows = 8, .visible = 1, .causal = 1}};
    attention_reference({.q = queries.data(),
                         .out = out.data(),
                         .n_rows = 8,
                         .n_heads = config.n_heads,
                         .n_kv_heads = config.n_kv_heads,
                         .head_dim = config.head_dim,
                         .scale = config.attention_scale,
                         .groups = groups});
    EXPECT_LE(nmse(out, expected), kSame) << layer;
  }
}

TEST_P(EngineTest, SixtyFourGreedyTokensAreLibllamas) {
  load({.architecture = "qwen2", .n_layers = 3, .tied = true});
  const auto prompt = byte_tokens(20);
  LlamaOracle oracle(folder_ / "m.gguf");
  const auto want = oracle.greedy(prompt, 64);
  auto own = segment(100);
  std::vector<Token> next = prompt;
  std::vector<Token> got;
  while (got.size() < 64) {
    const SequenceChunk chunk{.own = own, .own_length = own->length(), .n_tokens = static_cast<int>(next.size())};
    next = {static_cast<Token>(argmax(forward(next, {&chunk, 1})))};
    got.push_back(next.front());
  }
  EXPECT_EQ(got, want);
}

TEST_P(EngineTest, TheNumberOfThreadsChangesNothingButRounding) {
  load({});
  const auto tokens = byte_tokens(40);
  const auto one = whole(tokens);
  engine_ = new_engine(3);
  EXPECT_LE(nmse(whole(tokens), one), kSame);
}

TEST_P(EngineTest, EnginesShareAModelAcrossThreads) {
  load({});
  const auto tokens = byte_tokens(30);
  const auto want = whole(tokens);
  std::vector<std::vector<float>> got(3);
  {
    std::vector<std::jthread> threads;
    for (auto& out : got) {
      threads.emplace_back([&] {
        const auto mine = new_engine();
        for (int i = 0; i < 5; ++i) {
          const SequenceChunk chunk{.own = segment(30), .n_tokens = 30};
          out = copy_of(mine->forward(tokens, {&chunk, 1}).value());
        }
      });
    }
  }
  for (const auto& out : got) EXPECT_EQ(out, want);
}

INSTANTIATE_TEST_SUITE_P(Paths, EngineTest, testing::Values(KernelPath::kFused, KernelPath::kPlain),
                         [](const auto& test) { return test.param == KernelPath::kFused ? "Fused" : "Plain"; });

// What crosses the wire is K before RoPE and V, rounded; from them a segment must get the very bits of a local prefill.
struct ImportCase {
  const char* name;
  RandomModel model;
};

const ImportCase kImports[] = {
    {"Llama", {}},
    {"LlamaFrequencyFactors", {.rope_base = 500000.0F, .frequency_factors = true}},
    {"LlamaLinear", {.rope_scaling = "linear", .rope_factor = 4.0F}},
    {"LlamaYarn", {.rope_scaling = "yarn", .rope_factor = 4.0F, .rope_original_context = 64}},
    {"LlamaOddSizes", {.n_embd = 42, .n_heads = 3, .n_kv_heads = 3, .n_ff = 31}},
    {"Qwen2", {.architecture = "qwen2", .rope_base = 1e6F}},
    {"Qwen2WithALargeKeyBias", {.architecture = "qwen2", .n_embd = 128, .head_dim = 32, .key_bias = 70.0F}},
    {"LlamaWithAKeyBias", {.qkv_bias = true, .key_bias = 70.0F}},
    {"Qwen3", {.architecture = "qwen3", .n_heads = 8, .n_kv_heads = 4, .head_dim = 24}},
    {"Qwen3WithAKeyBias", {.architecture = "qwen3", .head_dim = 24, .qkv_bias = true}},
};

class ImportTest : public testing::TestWithParam<ImportCase> {
 protected:
  static std::vector<std::byte> bytes_of(const KvSegment& segment, int layer, bool k) {
    const KvView view = segment.view(layer);
    const auto n =
        static_cast<std::size_t>(segment.n_kv_heads() * segment.capacity()) * row_bytes(view.type, segment.head_dim());
    const auto* data = static_cast<const std::byte*>(k ? view.k : view.v);
    return {data, data + n};
  }
};

TEST_P(ImportTest, GivesTheBitsOfLocalPrefill) {
  const TemporaryFolder folder;
  write_random_model(folder / "m.gguf", GetParam().model);
  const auto model = Model::load(folder / "m.gguf").value();
  const ModelConfig& config = model->config();
  for (const KvType type : {KvType::kF16, KvType::kBf16, KvType::kF32, KvType::kQ8}) {
    if (type == KvType::kQ8 && config.head_dim % 32 != 0) continue;
    const auto engine = Engine::create(model, {.n_threads = 2}).value();
    const auto local = KvSegment::create(config, type, 0, 40).value();
    const auto imported = KvSegment::create(config, type, 0, 40).value();
    const auto tokens = byte_tokens(37);
    Hidden hidden = engine->embed(tokens).value();
    const SequenceChunk chunk{.own = local, .n_tokens = 37};
    int layers = 0;
    const auto tap = [&](int layer, std::span<const float> k, std::span<const float> v) {
      EXPECT_EQ(layer, layers++);
      std::vector<float> again(k.size());
      round_values(type, k, again.data());
      EXPECT_EQ(std::memcmp(again.data(), k.data(), k.size_bytes()), 0) << "K is not rounded";
      // In two pieces, as blocks arrive.
      const auto cut = static_cast<std::size_t>(config.kv_width()) * 16;
      ASSERT_TRUE(Engine::import_rows(*model, *imported, layer, 16, 21, k.subspan(cut), v.subspan(cut)));
      ASSERT_TRUE(Engine::import_rows(*model, *imported, layer, 0, 16, k.first(cut), v.first(cut)));
    };
    ASSERT_TRUE(engine->run_layers(0, config.n_layers, {&chunk, 1}, hidden, tap));
    EXPECT_EQ(layers, config.n_layers);
    for (int layer = 0; layer < config.n_layers; ++layer) {
      EXPECT_EQ(bytes_of(*imported, layer, true), bytes_of(*local, layer, true))
          << to_string(type) << " K of layer " << layer;
      if (type == KvType::kQ8) continue;  // V becomes q8 at once here; packs have it as f16
      EXPECT_EQ(bytes_of(*imported, layer, false), bytes_of(*local, layer, false))
          << to_string(type) << " V of layer " << layer;
    }
  }
}

// What is exported, coded and mapped: of order 1, however large the bias is.
TEST(KeyBiasTest, IsNotPartOfKBeforeRope) {
  const TemporaryFolder folder;
  write_random_model(folder / "m.gguf", {.architecture = "qwen2", .key_bias = 70.0F});
  const auto model = Model::load(folder / "m.gguf").value();
  EXPECT_TRUE(model->config().key_bias);
  const auto engine = Engine::create(model, {.n_threads = 2}).value();
  const auto segment = KvSegment::create(model->config(), KvType::kF32, 0, 20).value();
  Hidden hidden = engine->embed(byte_tokens(20)).value();
  const SequenceChunk chunk{.own = segment, .n_tokens = 20};
  float before = 0.0F;
  const auto tap = [&](int, std::span<const float> k, std::span<const float>) {
    for (const float value : k) before = std::max(before, std::abs(value));
  };
  ASSERT_TRUE(engine->run_layers(0, model->config().n_layers, {&chunk, 1}, hidden, tap));
  float after = 0.0F;
  const auto* k = static_cast<const float*>(segment->view(0).k);
  for (int i = 0; i < 20 * model->config().kv_width(); ++i) after = std::max(after, std::abs(k[i]));
  EXPECT_LT(before, 10.0F);
  EXPECT_GT(after, 70.0F);
}

INSTANTIATE_TEST_SUITE_P(Ropes, ImportTest, testing::ValuesIn(kImports),
                         [](const auto& test) { return std::string(test.param.name); });

// What does not fit is refused before a graph is built, because ggml would end the process.
class EngineRefusalTest : public EngineTest {
 protected:
  void SetUp() override {
    load({});
    hidden_ = engine_->embed(byte_tokens(4)).value();
  }
  KernelPath path() const override { return KernelPath::kFused; }
  std::string run(const SequenceChunk& chunk) { return run(std::vector{chunk}); }
  std::string run(const std::vector<SequenceChunk>& batch, int first = 0, int last = 2) {
    const Status status = engine_->run_layers(first, last, batch, hidden_);
    EXPECT_FALSE(status);
    if (status) return {};
    EXPECT_EQ(status.error().kind, ErrorKind::kInvalid);
    return status.error().message;
  }
  SequenceChunk good() const { return {.own = segment(8), .n_tokens = 4}; }
  Hidden hidden_;
};

TEST_F(EngineRefusalTest, TokensOutsideTheVocabulary) {
  EXPECT_THAT(engine_->embed(std::array<Token, 2>{0, 100000}).error().message, HasSubstr("token 100000"));
  EXPECT_FALSE(engine_->embed(std::array<Token, 1>{-1}));
  EXPECT_FALSE(engine_->embed({}));
}

TEST_F(EngineRefusalTest, LayersThatDoNotExist) {
  EXPECT_THAT(run({good()}, 0, 3), HasSubstr("[0, 3)"));
  EXPECT_THAT(run({good()}, -1, 1), HasSubstr("[-1, 1)"));
  EXPECT_THAT(run({good()}, 2, 1), HasSubstr("[2, 1)"));
}

TEST_F(EngineRefusalTest, QueriesOfALayerThatDoesNotExistAndOfHiddenStatesOfAnotherSize) {
  const SequenceChunk chunk{.own = segment(8), .n_tokens = 1};
  Hidden one{.values = std::vector<float>(static_cast<std::size_t>(model_->config().n_embd)), .n_tokens = 1};
  EXPECT_EQ(engine_->run_layer_for_queries(n_layers(), {&chunk, 1}, one).error().kind, ErrorKind::kInvalid);
  one.n_tokens = -1;
  EXPECT_EQ(engine_->run_layer_for_queries(0, {&chunk, 1}, one).error().kind, ErrorKind::kInvalid);
}

TEST_F(EngineRefusalTest, HiddenStatesOfAnotherSize) {
  hidden_.values.pop_back();
  EXPECT_THAT(run(good()), HasSubstr("hidden values"));
}

TEST_F(EngineRefusalTest, ChunksThatDoNotAddUp) {
  EXPECT_THAT(run({.own = segment(8), .n_tokens = 3}), HasSubstr("3 tokens in all for a batch of 4"));
  EXPECT_THAT(run({.own = segment(8), .n_tokens = 0}), HasSubstr("0 tokens"));
  EXPECT_THAT(run(std::vector<SequenceChunk>{}), HasSubstr("without chunks"));
}

TEST_F(EngineRefusalTest, SegmentsThatAreFullOrMissing) {
  EXPECT_THAT(run({.own = segment(7), .own_length = 4, .n_tokens = 4}), HasSubstr("do not fit"));
  EXPECT_THAT(run({.own = segment(7), .own_length = -1, .n_tokens = 4}), HasSubstr("do not fit"));
  EXPECT_THAT(run({.own = segment(7), .own_length = INT32_MAX, .n_tokens = 4}), HasSubstr("do not fit"));
  EXPECT_THAT(run({.n_tokens = 4}), HasSubstr("no segment"));
}

TEST_F(EngineRefusalTest, SegmentsOfAnotherModel) {
  ModelConfig other = model_->config();
  other.head_dim *= 2;
  const auto foreign = KvSegment::create(other, KvType::kF16, 0, 8).value();
  EXPECT_THAT(run({.own = foreign, .n_tokens = 4}), HasSubstr("own segment"));
  EXPECT_THAT(run({.context = foreign, .own = segment(8), .n_tokens = 4}), HasSubstr("context segment"));
}

TEST_F(EngineRefusalTest, PositionsWithAGap) {
  EXPECT_THAT(run({.own = segment(8, 5), .n_tokens = 4}), HasSubstr("begins at position 5"));
}

TEST_F(EngineRefusalTest, MoreRowsThanTheContextHas) {
  const auto context = segment(8);
  context->set_length(5);
  EXPECT_THAT(run({.context = context, .own = segment(8, 6), .n_tokens = 4, .context_rows = 6}), HasSubstr("has 5 rows"));
  EXPECT_THAT(run({.context = context, .own = segment(8, 5), .n_tokens = 4, .context_rows = 3}), HasSubstr("position 5"));
}

TEST_F(EngineRefusalTest, OneSegmentWrittenTwice) {
  const auto own = segment(8);
  EXPECT_THAT(run({{.own = own, .n_tokens = 2}, {.own = own, .own_length = 2, .n_tokens = 2}}), HasSubstr("one segment"));
  EXPECT_THAT(run({.context = own, .own = own, .n_tokens = 4}), HasSubstr("own context"));
}

TEST_F(EngineRefusalTest, LogitsOfRowsThatDoNotExist) {
  EXPECT_THAT(engine_->logits(hidden_, std::array{4}).error().message, HasSubstr("row 4"));
  EXPECT_FALSE(engine_->logits(hidden_, std::array{-1}));
  EXPECT_FALSE(engine_->logits(hidden_, {}));
}

TEST_F(EngineRefusalTest, ImportsThatDoNotFit) {
  const auto own = segment(8);
  const std::vector<float> values(static_cast<std::size_t>(model_->config().kv_width()) * 2);
  const auto import = [&](int layer, int first, int n, std::span<const float> k, std::span<const float> v) {
    return Engine::import_rows(*model_, *own, layer, first, n, k, v).has_value();
  };
  EXPECT_TRUE(import(1, 6, 2, values, values));
  EXPECT_FALSE(import(2, 0, 2, values, values));
  EXPECT_FALSE(import(0, 7, 2, values, values));
  EXPECT_FALSE(import(0, -1, 2, values, values));
  EXPECT_FALSE(import(0, 0, INT32_MAX, values, values));
  EXPECT_FALSE(import(0, 0, 2, values, std::span(values).first(1)));
}

TEST_F(EngineRefusalTest, ImportsThatOverflowWhenTheyAreRotated) {
  const auto own = KvSegment::create(model_->config(), KvType::kF16, 0, 8).value();
  const std::vector<float> values(static_cast<std::size_t>(model_->config().kv_width()) * 2, 65504.0F);
  EXPECT_TRUE(Engine::import_rows(*model_, *own, 0, 0, 2, {}, values));
  const Status imported = Engine::import_rows(*model_, *own, 1, 2, 2, values, values);
  ASSERT_FALSE(imported);
  EXPECT_EQ(imported.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(imported.error().message, HasSubstr("layer 1, row 2, head 0: K after its rotation"));
}

TEST_F(EngineRefusalTest, AbsurdNumbersOfThreads) {
  EXPECT_FALSE(Engine::create(model_, {.n_threads = -1}));
  EXPECT_FALSE(Engine::create(model_, {.n_threads = 100000}));
}

class KvSegmentTest : public testing::Test {
 protected:
  static ModelConfig config() {
    ModelConfig c;
    c.n_layers = 2;
    c.n_kv_heads = 3;
    c.head_dim = 10;
    return c;
  }
};

TEST_F(KvSegmentTest, LayersDoNotOverlapAndAreAligned) {
  const auto s = KvSegment::create(config(), KvType::kF16, 7, 5).value();
  const std::size_t half = 3 * 10 * 5 * 2;
  std::memset(s->k_data(0), 1, half);
  std::memset(s->v_data(0), 2, half);
  std::memset(s->k_data(1), 3, half);
  std::memset(s->v_data(1), 4, half);
  for (const void* p : {s->view(0).k, s->view(0).v, s->view(1).k, s->view(1).v})
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 64, 0U);
  EXPECT_EQ(static_cast<const char*>(s->view(0).k)[half - 1], 1);
  EXPECT_EQ(static_cast<const char*>(s->view(0).v)[half - 1], 2);
  EXPECT_EQ(static_cast<const char*>(s->view(1).k)[half - 1], 3);
  EXPECT_EQ(s->view(0).first_position, 7);
}

TEST_F(KvSegmentTest, IsZeroUntilWrittenAndGrowsByLength) {
  const auto s = KvSegment::create(config(), KvType::kF32, 0, 4).value();
  EXPECT_EQ(static_cast<const float*>(s->view(1).v)[3 * 10 * 4 - 1], 0.0F);
  EXPECT_EQ(s->length(), 0);
  s->set_length(3);
  EXPECT_EQ(s->view(0).length, 3);
}

TEST_F(KvSegmentTest, RefusesSizesThatCannotBe) {
  EXPECT_EQ(KvSegment::create(config(), KvType::kF16, 0, 0).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(KvSegment::create(config(), KvType::kF16, -1, 4).error().kind, ErrorKind::kInvalid);
  ModelConfig large = config();
  large.n_layers = 1000;
  large.n_kv_heads = 1000;
  EXPECT_EQ(KvSegment::create(large, KvType::kF32, 0, INT32_MAX).error().kind, ErrorKind::kInvalid);
}

TEST(KvTypeTest, RoundTripsByName) {
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kBf16, KvType::kQ8})
    EXPECT_EQ(kv_type_from(to_string(type)).value(), type);
  EXPECT_FALSE(kv_type_from("q4"));
}

TEST(RoundingTest, IsToNearestEvenAndIdempotent) {
  const std::vector<float> in = {1.0F, 1.0F + 0x1p-11F, 1.0F + 0x1.8p-10F, -0.1F, 65519.0F, 0x1p-24F, 3.0F, 1e-30F, 7.7F};
  for (const KvType type : {KvType::kF16, KvType::kBf16}) {
    std::vector<float> once(in.size());
    std::vector<float> twice(in.size());
    round_values(type, in, once.data());
    round_values(type, once, twice.data());
    EXPECT_EQ(once, twice);
  }
  std::vector<float> f16(in.size());
  round_values(KvType::kF16, in, f16.data());
  EXPECT_EQ(f16[1], 1.0F);            // half-way: down to even
  EXPECT_EQ(f16[2], 1.0F + 0x1p-9F);  // half-way: up to even
  EXPECT_EQ(f16[4], 65504.0F);        // the largest
  EXPECT_EQ(f16[5], 0x1p-24F);        // the smallest
  std::vector<float> bf16(in.size());
  round_values(KvType::kBf16, in, bf16.data());
  EXPECT_EQ(bf16[1], 1.0F);
  EXPECT_EQ(bf16[3], -0.10009765625F);
}

}  // namespace
}  // namespace celslm
