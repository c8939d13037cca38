// What a model file can get wrong, and the error that names it. None of it may end the process.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>
#include <vector>

#include "core/file.h"
#include "model/engine/model.h"
#include "model/gguf/gguf_check.h"
#include "model/gguf/gguf_metadata.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::RandomModel;
using testing_support::RandomModelKey;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

class ModelLoadTest : public testing::Test {
 protected:
  std::filesystem::path path() const { return folder_ / "model.gguf"; }

  Error error_of_file() const {
    const auto model = Model::load(path());
    EXPECT_FALSE(model);
    return model ? Error{} : model.error();
  }

  Error error_of(const RandomModel& model) const {
    write_random_model(path(), model);
    return error_of_file();
  }

  Error error_of(std::span<const char> bytes) const {
    std::ofstream(path(), std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return error_of_file();
  }

  std::vector<char> valid_bytes() const {
    write_random_model(path(), {});
    std::ifstream in(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  // With an alignment in its metadata.
  std::vector<char> valid_bytes_aligned() const {
    write_random_model(path(), {.edit = [](auto* g) { gguf_set_val_u32(g, "general.alignment", 32); }});
    std::ifstream in(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  void expect_invalid(const Error& error, const char* what, ErrorKind kind = ErrorKind::kInvalid) const {
    EXPECT_EQ(error.kind, kind) << error.message;
    EXPECT_THAT(error.message, HasSubstr(what));
    EXPECT_THAT(error.message, HasSubstr("model.gguf"));
  }

  TemporaryFolder folder_;
};

TEST_F(ModelLoadTest, DescribesTheModel) {
  write_random_model(path(), {.architecture = "qwen3", .n_layers = 3, .head_dim = 32, .tied = true});
  const auto model = Model::load(path());
  ASSERT_TRUE(model) << model.error().message;
  const ModelConfig& config = (*model)->config();
  EXPECT_EQ(config.architecture, Architecture::kQwen3);
  EXPECT_EQ(config.n_layers, 3);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.kv_width(), 64);
  EXPECT_TRUE(config.rope.neox);
  EXPECT_TRUE(config.qk_norm);
  EXPECT_TRUE(config.tied_output);
  EXPECT_EQ(config.n_vocab, (*model)->text().n_vocab());
}

TEST_F(ModelLoadTest, AModelInSeveralFilesIsTheSameModel) {
  write_random_model(path(), {.n_layers = 3});
  const ModelFingerprint expected = Model::load(path()).value()->fingerprint();
  for (const int n : {2, 5}) {
    const auto parts = testing_support::split_model(path(), folder_ / fmt::format("split{}", n), n);
    const auto model = Model::load(parts.front());
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ((*model)->fingerprint(), expected);
    EXPECT_EQ((*model)->text().n_vocab(), (*model)->config().n_vocab);
  }
}

TEST_F(ModelLoadTest, PartsOfAModelMustBeTheOnesThatBelongTogether) {
  write_random_model(path(), {});
  const auto parts = testing_support::split_model(path(), folder_ / "model.gguf.split", 3);
  const auto error_of_parts = [&] { return Model::load(parts.front()).error().message; };
  EXPECT_THAT(Model::load(parts[1]).error().message, HasSubstr("give the first, *-00001-of-00003.gguf"));
  std::filesystem::rename(parts[2], folder_ / "third");
  EXPECT_THAT(error_of_parts(), HasSubstr(parts[2].string()));  // not there
  std::filesystem::copy_file(parts[1], parts[2]);
  EXPECT_THAT(error_of_parts(), HasSubstr("it is part 2 of 3; expected part 3 of 3"));
  std::filesystem::resize_file(folder_ / "third", std::filesystem::file_size(folder_ / "third") - 100);
  std::filesystem::rename(folder_ / "third", parts[2]);
  EXPECT_THAT(error_of_parts(), HasSubstr("cut short"));
}

TEST_F(ModelLoadTest, RefusesAnAlignmentThatIsNone) {
  for (const std::uint32_t alignment : {0U, 1U, 4U, 48U, 1U << 30}) {
    auto bytes = valid_bytes_aligned();
    std::memcpy(std::ranges::search(bytes, std::string_view("general.alignment")).end().base() + 4, &alignment, 4);
    expect_invalid(error_of(bytes), "general.alignment");
  }
}

TEST_F(ModelLoadTest, ReportsProgressUpToOne) {
  write_random_model(path(), {});
  std::vector<float> seen;
  ASSERT_TRUE(Model::load(path(), {.progress = [&](float f) { seen.push_back(f); }}));
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_FLOAT_EQ(seen.back(), 1.0F);
}

TEST_F(ModelLoadTest, FingerprintFollowsWeightsAndTokenizerSeparately) {
  const auto fingerprint = [&](const RandomModel& m) {
    write_random_model(path(), m);
    return Model::load(path()).value()->fingerprint();
  };
  const ModelFingerprint first = fingerprint({});
  EXPECT_EQ(fingerprint({}), first);
  EXPECT_THAT(fingerprint({.seed = 2}).difference(first), testing::StartsWith("weights"));
  EXPECT_THAT(fingerprint({.chat_template = "other"}).difference(first), testing::StartsWith("tokenizer"));
  EXPECT_THAT(fingerprint({.rope_base = 5000.0F}).difference(first), testing::StartsWith("rope"));
}

// Models of few bits are computed with other bits than by earlier versions: the class sets their packs apart.
TEST_F(ModelLoadTest, ArithmeticClassFollowsTheLayersWeights) {
  const auto class_of = [&](const RandomModel& m) {
    write_random_model(path(), m);
    return Model::load(path()).value()->fingerprint().arithmetic;
  };
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0})
    EXPECT_EQ(class_of({.type = type}), Arithmetic::kCpu);
  for (const ggml_type type : {GGML_TYPE_Q4_0, GGML_TYPE_Q5_1, GGML_TYPE_IQ4_NL})
    EXPECT_EQ(class_of({.type = type}), Arithmetic::kCpuIntegers);
}

// Packs and maps on disk name models by ids that this text is part of.
TEST(CanonicalTextTest, StaysAsItIs) {
  ModelConfig config{
      .head_dim = 16,
      .attention_scale = 0.25F,
      .rope = {.dimensions = 32, .base = 500000.0F, .original_context = 2048, .yarn_ext_factor = 0.0F},
      .layers = std::vector<LayerTraits>(3),
  };
  const std::string rope = "norm 32 base 5e+05 scaling 0 1 of 2048 ext 0 attn 1 beta 32 1 factors false";
  EXPECT_EQ(canonical_text(config), rope);
  config.architecture = Architecture::kGemma3;
  config.local_rope = config.rope;
  config.layers = {{.rope = RopeUse::kLocal, .window = 512}, {}, {.rope = RopeUse::kLocal, .window = 512}};
  config.embedding_scale = 8.0F;
  EXPECT_EQ(canonical_text(config), rope + " layers Lg window 512 local " + rope + " embeddings 8 epsilon 1e-05");
}

TEST_F(ModelLoadTest, MissingFileIsNotFound) {
  EXPECT_EQ(error_of_file().kind, ErrorKind::kNotFound);
}

TEST_F(ModelLoadTest, RefusesAnEmptyFile) {
  expect_invalid(error_of(std::vector<char>{}), "not a GGUF");
}

TEST_F(ModelLoadTest, RefusesWhatIsNotAGguf) {
  expect_invalid(error_of(std::vector<char>(1000, 'x')), "not a GGUF");
}

TEST_F(ModelLoadTest, RefusesAnotherVersion) {
  auto bytes = valid_bytes();
  bytes[4] = 9;
  expect_invalid(error_of(bytes), "version 9");
}

TEST_F(ModelLoadTest, RefusesAFileCutShortAnywhere) {
  const auto bytes = valid_bytes();
  for (std::size_t n = 1; n < bytes.size(); n = n < 12000 ? n + 97 : n + 9973) {
    const Error error = error_of(std::span(bytes).first(n));
    EXPECT_EQ(error.kind, ErrorKind::kInvalid) << n << ": " << error.message;
  }
  expect_invalid(error_of(std::span(bytes).first(bytes.size() - 64)), "cut short");
}

TEST_F(ModelLoadTest, RefusesAbsurdCountsAtOnce) {
  for (const std::size_t offset : {8, 16}) {
    for (const std::uint64_t count : {std::uint64_t{1} << 20, std::uint64_t{1} << 60, ~std::uint64_t{0}}) {
      auto bytes = valid_bytes();
      std::memcpy(bytes.data() + offset, &count, sizeof count);
      expect_invalid(error_of(bytes), "accepted");
    }
  }
}

TEST_F(ModelLoadTest, RefusesAStringLongerThanTheFile) {
  auto bytes = valid_bytes();
  const std::uint64_t length = std::uint64_t{1} << 62;
  std::memcpy(bytes.data() + 24, &length, sizeof length);  // of the first key
  expect_invalid(error_of(bytes), "cut short or damaged");
}

// Every byte of the header made wrong, one at a time: whatever it means, loading ends with a model or an error.
TEST_F(ModelLoadTest, SurvivesEveryByteOfTheHeaderBeingWrong) {
  const auto bytes = valid_bytes();
  for (std::size_t at = 0; at < 9000; at += 7) {
    auto damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0xFF);
    std::ofstream(path(), std::ios::binary).write(damaged.data(), static_cast<std::streamsize>(damaged.size()));
    if (const auto model = Model::load(path()); !model) {
      const bool sound_elsewhere = model.error().kind == ErrorKind::kMismatch;  // a name that another program may know
      EXPECT_TRUE(sound_elsewhere || model.error().kind == ErrorKind::kInvalid) << at << ": " << model.error().message;
    }
  }
}

TEST_F(ModelLoadTest, NamesAnUnsupportedArchitectureBesideOurs) {
  const Error error = error_of(RandomModel{.architecture = "mamba"});
  expect_invalid(error, "'mamba'", ErrorKind::kMismatch);
  EXPECT_THAT(error.message, HasSubstr("llama, qwen2, qwen3"));
}

TEST_F(ModelLoadTest, NamesAMissingTensor) {
  expect_invalid(error_of(RandomModel{.missing_tensor = "blk.1.ffn_up.weight"}), "no tensor 'blk.1.ffn_up.weight'");
}

TEST_F(ModelLoadTest, NamesAMisshapenTensor) {
  expect_invalid(error_of(RandomModel{.misshapen_tensor = "blk.0.attn_k.weight"}),
                 "'blk.0.attn_k.weight' is 64 x 33, expected 64 x 32");
  expect_invalid(error_of(RandomModel{.misshapen_tensor = "blk.0.ffn_norm.weight"}), "'blk.0.ffn_norm.weight'");
}

TEST_F(ModelLoadTest, RefusesATensorWhosePartWouldBeIgnored) {
  expect_invalid(error_of(RandomModel{.extra_tensor = "blk.0.attn_sub_norm.weight"}), "'blk.0.attn_sub_norm.weight'",
                 ErrorKind::kMismatch);
}

// kind: kMismatch where the file is sound and has something that graphs here lack.
struct Edit {
  const char* name;
  const char* message;
  std::function<void(gguf_context*)> edit;
  ErrorKind kind = ErrorKind::kInvalid;
};

const Edit kEdits[] = {
    {"NoArchitecture", "general.architecture", [](auto* g) { gguf_remove_key(g, "general.architecture"); }},
    {"ArchitectureIsANumber", "expected text", [](auto* g) { gguf_set_val_u32(g, "general.architecture", 1); }},
    {"NoLayerCount", "llama.block_count", [](auto* g) { gguf_remove_key(g, "llama.block_count"); }},
    {"LayerCountIsText", "expected one integer", [](auto* g) { gguf_set_val_str(g, "llama.block_count", "2"); }},
    {"NoLayers", "llama.block_count", [](auto* g) { gguf_set_val_u32(g, "llama.block_count", 0); }},
    {"AbsurdlyManyLayers", "llama.block_count", [](auto* g) { gguf_set_val_u32(g, "llama.block_count", 4'000'000'000U); }},
    {"NegativeWidth", "llama.embedding_length", [](auto* g) { gguf_set_val_i32(g, "llama.embedding_length", -64); }},
    {"HeadsThatDoNotDivide", "4 heads do not divide into 3",
     [](auto* g) { gguf_set_val_u32(g, "llama.attention.head_count_kv", 3); }},
    {"NoHeads", "head_count", [](auto* g) { gguf_set_val_u32(g, "llama.attention.head_count", 0); }},
    {"HeadsPerLayer", "expected one integer",
     [](auto* g) {
       constexpr std::uint32_t kHeads[] = {4, 4};
       gguf_set_arr_data(g, "llama.attention.head_count", GGUF_TYPE_UINT32, kHeads, 2);
     }},
    {"OddHeads", "not even", [](auto* g) { gguf_set_val_u32(g, "llama.rope.dimension_count", 15); }},
    {"KeysUnlikeValues", "must be equal", [](auto* g) { gguf_set_val_u32(g, "llama.attention.value_length", 32); },
     ErrorKind::kMismatch},
    {"EpsilonIsNotANumber", "layer_norm_rms_epsilon",
     [](auto* g) {
       gguf_set_val_f32(g, "llama.attention.layer_norm_rms_epsilon", std::numeric_limits<float>::quiet_NaN());
     }},
    {"UnknownRopeScaling", "longrope", [](auto* g) { gguf_set_val_str(g, "llama.rope.scaling.type", "longrope"); },
     ErrorKind::kMismatch},
    {"InfiniteRopeBase", "freq_base",
     [](auto* g) { gguf_set_val_f32(g, "llama.rope.freq_base", std::numeric_limits<float>::infinity()); }},
    {"ScoresThatAreBent", "'llama.attn_logit_softcapping' is 50",
     [](auto* g) { gguf_set_val_f32(g, "llama.attn_logit_softcapping", 50.0F); }, ErrorKind::kMismatch},
    {"ScaledLogits", "'llama.logit_scale' is 0.5", [](auto* g) { gguf_set_val_f32(g, "llama.logit_scale", 0.5F); },
     ErrorKind::kMismatch},
    {"AWindowWhereNoneIsExpected", "sliding windows are not supported for llama",
     [](auto* g) { gguf_set_val_u32(g, "llama.attention.sliding_window", 64); }, ErrorKind::kMismatch},
    {"PositionsInSections", "'llama.rope.dimension_sections' is no number",
     [](auto* g) {
       constexpr std::int32_t kSections[] = {4, 4, 0, 0};
       gguf_set_arr_data(g, "llama.rope.dimension_sections", GGUF_TYPE_INT32, kSections, 4);
     },
     ErrorKind::kMismatch},
    {"Experts", "mixture of 8 experts", [](auto* g) { gguf_set_val_u32(g, "llama.expert_count", 8); }, ErrorKind::kMismatch},
    {"AnotherTokenizer", "tokenizer 'bert'", [](auto* g) { gguf_set_val_str(g, "tokenizer.ggml.model", "bert"); },
     ErrorKind::kMismatch},
    {"NoTokens", "tokenizer.ggml.tokens", [](auto* g) { gguf_remove_key(g, "tokenizer.ggml.tokens"); }},
    {"TokensAreNumbers", "not an array of str",
     [](auto* g) {
       constexpr std::uint32_t kTokens[] = {1, 2};
       gguf_set_arr_data(g, "tokenizer.ggml.tokens", GGUF_TYPE_UINT32, kTokens, 2);
     }},
    {"FewerTokensThanRows", "token_embd.weight",
     [](auto* g) {
       const char* kTokens[] = {"a", "b"};
       gguf_set_arr_str(g, "tokenizer.ggml.tokens", kTokens, 2);
       gguf_remove_key(g, "tokenizer.ggml.token_type");
     }},
    {"TwoTokensOfOneText", "token 264 has the text of another",
     [](auto* g) {
       const std::int64_t id = gguf_find_key(g, "tokenizer.ggml.tokens");
       std::vector<std::string> tokens;
       for (std::size_t i = 0; i < gguf_get_arr_n(g, id); ++i) tokens.emplace_back(gguf_get_arr_str(g, id, i));
       tokens.back() = tokens.front();
       std::vector<const char*> raw;
       for (const std::string& token : tokens) raw.push_back(token.c_str());
       gguf_set_arr_str(g, "tokenizer.ggml.tokens", raw.data(), raw.size());
     }},
    {"FewerTypesThanTokens", "token_type",
     [](auto* g) {
       constexpr std::int32_t kTypes[] = {1};
       gguf_set_arr_data(g, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, kTypes, 1);
     }},
    {"MergeOfOneWord", "merge 0",
     [](auto* g) {
       const char* kMerges[] = {"th"};
       gguf_set_arr_str(g, "tokenizer.ggml.merges", kMerges, 1);
     }},
    {"UnknownPreTokenizer", "vocabulary", [](auto* g) { gguf_set_val_str(g, "tokenizer.ggml.pre", "nothing-known"); }},
    {"PartOfAModel", "is part 2 of 3",
     [](auto* g) {
       gguf_set_val_u16(g, "split.count", 3);
       gguf_set_val_u16(g, "split.no", 1);
     }},
    {"FirstPartUnderAnotherName", "must end in '-00001-of-00003.gguf'",
     [](auto* g) {
       gguf_set_val_u16(g, "split.count", 3);
       gguf_set_val_u16(g, "split.no", 0);
     }},
};

// Keys that are there and change nothing.
TEST_F(ModelLoadTest, AcceptsScalesOfOneAndAWindowThatHidesNothing) {
  RandomModel model;
  model.keys = {{"logit_scale", 1.0F}, {"attn_logit_softcapping", 0.0F}, {"attention.sliding_window", model.n_ctx}};
  write_random_model(path(), model);
  const auto loaded = Model::load(path());
  ASSERT_TRUE(loaded) << loaded.error().message;
}

TEST_F(ModelLoadTest, RefusesAPatternOfWindowsThatIsNotTheArchitectures) {
  RandomModel model{.architecture = "gemma3", .n_layers = 6, .keys = {{"attention.sliding_window", 32}}};
  const auto set_pattern = [](std::vector<std::int8_t> windows) {
    return [windows](gguf_context* g) {
      gguf_set_arr_data(g, "gemma3.attention.sliding_window_pattern", GGUF_TYPE_BOOL, windows.data(), windows.size());
    };
  };
  model.edit = set_pattern({1, 1, 1, 1, 1, 0});
  write_random_model(path(), model);
  ASSERT_TRUE(Model::load(path()));
  model.edit = set_pattern({1, 0, 1, 1, 1, 0});
  expect_invalid(error_of(model), "is not that of other gemma3 models", ErrorKind::kMismatch);
}

TEST_F(ModelLoadTest, LeavesOutLayersThatPredictFurtherTokens) {
  const RandomModel model{.architecture = "qwen35",
                          .n_layers = 4,
                          .keys = {{"nextn_predict_layers", 1}, {"block_count", 5}},
                          .extra_tensor = "blk.4.nextn.enorm.weight"};
  write_random_model(path(), model);
  const auto loaded = Model::load(path());
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ((*loaded)->config().n_layers, 4);
  EXPECT_EQ((*loaded)->fingerprint().n_layers, 4U);
  EXPECT_EQ((*loaded)->fingerprint().states.size(), 4U);
}

// What our graphs lack is no reason to refuse a model that libllama runs; what is wrong with a file is.
TEST_F(ModelLoadTest, IsRunByLibllamaWhereOurGraphsLackAFeature) {
  const auto load = [&](const RandomModel& model) {
    write_random_model(path(), model);
    return Model::load(path(), {.allow_foreign = true});
  };
  const auto model = load({.keys = {{"attention.sliding_window", 64}}});
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_STREQ((*model)->engine_name(), "libllama");
  EXPECT_THAT((*model)->foreign_reason(), HasSubstr("sliding windows are not supported for llama"));
  EXPECT_EQ((*model)->fingerprint().architecture, "llama");
  EXPECT_THAT(load({.architecture = "internlm2"}).value()->foreign_reason(), HasSubstr("no graph here"));
  EXPECT_EQ(load({.architecture = "lfm2"}).value()->foreign_reason(), "");
  EXPECT_EQ(load({}).value()->foreign_reason(), "");
  EXPECT_EQ(load({.missing_tensor = "blk.1.ffn_up.weight"}).error().kind, ErrorKind::kInvalid);
  const auto unknown = load({.edit = [](auto* g) { gguf_set_val_str(g, "llama.rope.scaling.type", "nothing-known"); }});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, ErrorKind::kInvalid) << "libllama would end the process";
}

// The same weights under other metadata compute something else: their KV must not meet.
TEST_F(ModelLoadTest, IsAnotherModelWithAnotherScaleWindowOrPlaceOfRope) {
  const auto id_of = [&](const RandomModel& model) {
    write_random_model(path(), model);
    return Model::load(path()).value()->fingerprint().id().hex();
  };
  std::set<std::string> ids;
  const std::vector<std::vector<RandomModelKey>> granites = {{},
                                                             {{"residual_scale", 0.5F}},
                                                             {{"embedding_scale", 2.0F}},
                                                             {{"attention.scale", 0.5F}},
                                                             {{"rope.scaling.finetuned", false}}};
  for (const auto& keys : granites) ids.insert(id_of({.architecture = "granite", .keys = keys}));
  const std::vector<std::vector<RandomModelKey>> gemmas = {
      {{"attention.sliding_window", 32}},
      {{"attention.sliding_window", 33}},
      {{"attention.sliding_window", 32}, {"rope.freq_base_swa", 9.0F}},
      {{"attention.sliding_window", 32}, {"attention.sliding_window_pattern", 2}}};
  for (const auto& keys : gemmas) ids.insert(id_of({.architecture = "gemma3", .n_layers = 6, .keys = keys}));
  EXPECT_EQ(ids.size(), granites.size() + gemmas.size());
}

class MetadataTest : public ModelLoadTest, public testing::WithParamInterface<Edit> {};

TEST_P(MetadataTest, IsRefusedByName) {
  RandomModel model;
  model.edit = GetParam().edit;
  expect_invalid(error_of(model), GetParam().message, GetParam().kind);
}

INSTANTIATE_TEST_SUITE_P(Faults, MetadataTest, testing::ValuesIn(kEdits),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace celslm
