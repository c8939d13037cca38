#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "kv/pack/pack.h"
#include "kv/pack/test_support.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using testing_support::small_identity;

struct FieldCase {
  const char* difference;  // how the message begins
  std::function<void(PackIdentity&)> change;
};

const FieldCase kFields[] = {
    {"model.architecture (qwen2 here, llama there)", [](PackIdentity& i) { i.model.architecture = "llama"; }},
    {"model.n_layers (3 here, 4 there)", [](PackIdentity& i) { i.model.n_layers = 4; }},
    {"model.n_kv_heads (2 here, 1 there)", [](PackIdentity& i) { i.model.n_kv_heads = 1; }},
    {"model.head_dim (20 here, 40 there)", [](PackIdentity& i) { i.model.head_dim = 40; }},
    {"model.rope (", [](PackIdentity& i) { i.model.rope = "neox 20 10000"; }},
    {"model.tokenizer (", [](PackIdentity& i) { i.model.tokenizer = hash_of("x"); }},
    {"model.weights (", [](PackIdentity& i) { i.model.weights = hash_of("x"); }},
    {"model.arithmetic class (1 here, 2 there)", [](PackIdentity& i) { i.model.arithmetic = Arithmetic::kCpuIntegers; }},
    {"n_tokens (300 here, 299 there)", [](PackIdentity& i) { i.tokens.pop_back(); }},
    {"tokens[2] (14 here, 15 there)", [](PackIdentity& i) { i.tokens[2] = 15; }},
    {"context (", [](PackIdentity& i) { i.context = hash_of("x"); }},
    {"provenance (proxy here, native there)", [](PackIdentity& i) { i.provenance = Provenance::kNative; }},
    {"split (0 here, 1 there)", [](PackIdentity& i) { i.split = 1; }},
    {"map (", [](PackIdentity& i) { i.map = hash_of("x"); }},
    {"tuning (", [](PackIdentity& i) { i.tuning = hash_of("x"); }},
    {"study (", [](PackIdentity& i) { i.study = hash_of("x"); }},
    {"version (2 here, 1 there)", [](PackIdentity& i) { i.version = 1; }},
    {"codec (f16 here, q8 there)", [](PackIdentity& i) { i.codec = CodecId::kQ8; }},
};

TEST(PackIdentityTest, EveryFieldChangesTheIdAndIsNamedAsTheDifference) {
  for (const FieldCase& field : kFields) {
    PackIdentity other = small_identity();
    field.change(other);
    EXPECT_NE(small_identity().id(), other.id()) << field.difference;
    EXPECT_THAT(small_identity().difference(other), StartsWith(field.difference));
  }
}

TEST(PackIdentityTest, EqualIdentitiesHaveNoDifference) {
  EXPECT_EQ(small_identity().difference(small_identity()), "");
}

// Ids name packs in stores and URLs, so they must never change.
TEST(PackIdentityTest, IdsAreStableAcrossBuilds) {
  EXPECT_EQ(small_identity().context.hex(), "bae54111af90c119718fe5b1d77e86bbdb551d806d1b6662be5a7fe6892d1e45");
  EXPECT_EQ(small_identity().id().hex(), "5bcefa9507c44b5aeef60ff5250add5ec956171392f73af105c905c6310ddf3e");
  EXPECT_EQ(version_1(small_identity()).id().hex(), "8ea1fe80f3a0c6a979300d29d7cb5b927c921be11fa37c343a42e6e779159ec7");
}

TEST(PackIdentityTest, ContextsOfDifferentTokenizersDiffer) {
  const std::vector<Token> tokens = {1, 2, 3};
  EXPECT_NE(context_id(hash_of("a"), tokens), context_id(hash_of("b"), tokens));
  EXPECT_NE(context_id(hash_of("a"), tokens), context_id(hash_of("a"), std::vector<Token>{1, 2}));
}

TEST(PackIdentityTest, CountsTheBlocksOfShortAndFullChunks) {
  for (const auto& [tokens, chunks, last] :
       {std::tuple{1, 1, 1}, {255, 1, 255}, {256, 1, 256}, {257, 2, 1}, {512, 2, 256}}) {
    const PackIdentity identity = small_identity(CodecId::kF16, tokens);
    EXPECT_EQ(identity.n_chunks(), chunks);
    EXPECT_EQ(identity.n_blocks(), 3 * 2 * chunks);
    EXPECT_EQ(identity.shape(BlockKind::kKey, chunks - 1).n_tokens, last);
  }
}

TEST(PackIdentityTest, OffsetsAreTheSumsOfTheLengthsBefore) {
  for (const int tokens : {1, 256, 257, 1000}) {
    for (const Codec* codec : all_codecs()) {
      const PackIdentity identity = small_identity(codec->id(), tokens);
      ByteBounds sum;
      for (int i = 0; i < identity.n_blocks(); ++i) {
        EXPECT_EQ(block_offset(identity, i), sum) << "block " << i << ", " << tokens << " tokens";
        const ByteBounds bytes = block_bytes(identity, i);
        EXPECT_LE(bytes.least, bytes.most);
        sum = {sum.least + bytes.least, sum.most + bytes.most};
      }
      EXPECT_EQ(block_region_bytes(identity), sum);
    }
  }
}

TEST(PackIdentityTest, CheckIdentityNamesTheBadField) {
  EXPECT_TRUE(check_identity(small_identity()));
  const auto message = [](const std::function<void(PackIdentity&)>& change) {
    PackIdentity identity = small_identity();
    change(identity);
    const auto status = check_identity(identity);
    return status ? "accepted" : status.error().message;
  };
  EXPECT_THAT(message([](PackIdentity& i) { i.tokens.clear(); }), HasSubstr("n_tokens is 0"));
  EXPECT_THAT(message([](PackIdentity& i) { i.tokens.resize(kMaxPackTokens + 1); }), HasSubstr("n_tokens"));
  EXPECT_THAT(message([](PackIdentity& i) { i.model.n_layers = 0; }), HasSubstr("n_layers is 0"));
  EXPECT_THAT(message([](PackIdentity& i) { i.model.head_dim = 0; }), HasSubstr("head_dim is 0"));
  EXPECT_THAT(message([](PackIdentity& i) { i.model.rope.resize(kMaxRopeBytes + 1); }), HasSubstr("rope"));
  EXPECT_THAT(message([](PackIdentity& i) { i.codec = static_cast<CodecId>(9); }), HasSubstr("codec"));
  EXPECT_THAT(message([](PackIdentity& i) { i.provenance = static_cast<Provenance>(9); }), HasSubstr("provenance is 9"));
  EXPECT_THAT(message([](PackIdentity& i) { i.version = 3; }), HasSubstr("version is 3"));
  EXPECT_THAT(message([](PackIdentity& i) {
                i.version = 1;
                i.provenance = Provenance::kTuned;
                i.tuning = hash_of("x");
              }),
              HasSubstr("provenance is 4; version 1 has 0 to 3"));
  EXPECT_THAT(message([](PackIdentity& i) {
                i.version = 1;
                i.model.arithmetic = Arithmetic::kCpuIntegers;
              }),
              HasSubstr("version 1 has KV of arithmetic class 1 only, not 2"));
  EXPECT_THAT(message([](PackIdentity& i) { i.tokens[0] = -1; }), HasSubstr("negative"));
  EXPECT_THAT(message([](PackIdentity& i) { i.tokens[0] = 1; }), HasSubstr("context is"));
}

TEST(PackIdentityTest, IsRefusedIfItsHeaderWouldBeTooLong) {
  PackIdentity identity = small_identity(CodecId::kF16, kMaxPackTokens);
  identity.model.n_layers = kMaxPackLayers;
  EXPECT_THAT(check_identity(identity).error().message, HasSubstr("header_bytes"));
}

}  // namespace
}  // namespace celslm
