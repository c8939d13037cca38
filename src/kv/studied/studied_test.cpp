#include "kv/studied/studied.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "kv/pack/test_support.h"
#include "model/gguf/gguf_contents.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::kv_values;

StudiedContext small_study() {
  StudiedContext out{.model = hash_of("model"),
                     .context = context_handle("text"),
                     .tokens = {5, 6, 7, 8, 9, 10, 11},
                     .recipe = "every second row",
                     .n_kv_heads = 2,
                     .head_dim = 8,
                     .kv = {.n_rows = 3, .n_tokens = 7}};
  for (std::uint64_t layer = 0; layer < 12; ++layer) {
    out.kv.layers.push_back({.k = kv_values(3 * 16, layer + 1),
                             .v = kv_values(3 * 16, layer + 50),
                             .positions = {0, 2, 6, 1, 3, 5},
                             .log_mass = {0.0F, 0.5F, 1.0F, -1.0F, 0.25F, static_cast<float>(layer)}});
  }
  return out;
}

// The message with which the file is refused when it has been changed so.
template <typename Change>
std::string refusal(const Change& change) {
  GgufContents contents = parse_gguf(encode_studied(small_study())).value();
  change(contents);
  const auto parsed = parse_studied(encode_gguf(contents));
  EXPECT_FALSE(parsed);
  return parsed ? "" : parsed.error().message;
}

TEST(StudiedTest, IsReadAsItWasWritten) {
  const StudiedContext study = small_study();
  const auto read = parse_studied(encode_studied(study));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->model, study.model);
  EXPECT_EQ(read->context, study.context);
  EXPECT_EQ(read->tokens, study.tokens);
  EXPECT_EQ(read->recipe, study.recipe);
  EXPECT_EQ(read->n_kv_heads, 2);
  EXPECT_EQ(read->head_dim, 8);
  EXPECT_EQ(read->kv.n_rows, 3);
  EXPECT_EQ(read->kv.n_tokens, 7);
  ASSERT_EQ(read->kv.layers.size(), 12U);
  for (std::size_t i = 0; i < 12; ++i) {
    EXPECT_EQ(read->kv.layers[i].k, study.kv.layers[i].k);
    EXPECT_EQ(read->kv.layers[i].v, study.kv.layers[i].v);
    EXPECT_EQ(read->kv.layers[i].positions, study.kv.layers[i].positions);
    EXPECT_EQ(read->kv.layers[i].log_mass, study.kv.layers[i].log_mass);
  }
}

TEST(StudiedTest, FilesThatDifferAreDifferentStudies) {
  const testing_support::TemporaryFolder folder;
  StudiedContext study = small_study();
  ASSERT_TRUE(write_studied(folder.path() / "a.gguf", study));
  study.kv.layers[3].v[7] += 1.0F;
  ASSERT_TRUE(write_studied(folder.path() / "b.gguf", study));
  const auto a = read_studied(folder.path() / "a.gguf");
  const auto b = read_studied(folder.path() / "b.gguf");
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->study.n_rows, 3);
  EXPECT_NE(a->study.id, b->study.id);
}

TEST(StudiedTest, RefusesWhatIsNotOne) {
  EXPECT_THAT(refusal([](auto& c) { c.texts["general.architecture"] = "llama"; }), HasSubstr("is not a studied context"));
  EXPECT_THAT(refusal([](auto& c) { c.numbers["celslm.studied.version"] = 2; }), HasSubstr("version 2"));
  EXPECT_THAT(refusal([](auto& c) { c.texts.erase("celslm.studied.model"); }), HasSubstr("celslm.studied.model"));
  EXPECT_THAT(refusal([](auto& c) { c.texts["celslm.studied.context"] = "xyz"; }), HasSubstr("celslm.studied.context"));
  EXPECT_THAT(refusal([](auto& c) { c.texts["celslm.studied.other"] = "1"; }), HasSubstr("unknown"));
  EXPECT_FALSE(parse_studied({}));
}

TEST(StudiedTest, RefusesTensorsThatDoNotFit) {
  EXPECT_THAT(refusal([](auto& c) { c.matrices.erase("tokens"); }), HasSubstr("no tensor 'tokens'"));
  EXPECT_THAT(refusal([](auto& c) { c.matrices.erase("layer.4.log_mass"); }), HasSubstr("layer."));
  EXPECT_THAT(refusal([](auto& c) { c.matrices["more"] = {1, 1, {0.0F}}; }), HasSubstr("'more' is unknown"));
  EXPECT_THAT(refusal([](auto& c) { c.matrices["layer.2.k"] = {2, 16, std::vector<float>(32)}; }), HasSubstr("layer 2"));
  EXPECT_THAT(refusal([](auto& c) { c.matrices["layer.2.positions"] = {1, 6, std::vector<float>(6)}; }),
              HasSubstr("layer 2"));
  EXPECT_THAT(refusal([](auto& c) { c.matrices["layer.0.positions"] = {5, 1, std::vector<float>(5)}; }), HasSubstr("K has"));
}

TEST(StudiedTest, RefusesMoreRowsThanTokens) {
  EXPECT_THAT(refusal([](auto& c) { c.matrices["tokens"] = {1, 2, {5.0F, 6.0F}}; }), HasSubstr("3 rows for 2 tokens"));
}

TEST(StudiedTest, RefusesNumbersThatAreOutOfRange) {
  const auto with = [](const char* tensor, float value) {
    return refusal([&](auto& c) { c.matrices[tensor].values[4] = value; });
  };
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  for (const float position : {-1.0F, 7.0F}) EXPECT_THAT(with("layer.1.positions", position), HasSubstr("position"));
  for (const float position : {0.5F, kNaN, 1e20F}) EXPECT_THAT(with("layer.1.positions", position), HasSubstr("whole"));
  for (const float mass : {33.0F, kNaN, -std::numeric_limits<float>::infinity()})
    EXPECT_THAT(with("layer.1.log_mass", mass), HasSubstr("log mass"));
  EXPECT_THAT(with("layer.1.k", kNaN), HasSubstr("not finite"));
  EXPECT_THAT(with("tokens", -1.0F), HasSubstr("negative"));
}

}  // namespace
}  // namespace celslm
