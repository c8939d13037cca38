#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace celslm {
namespace {

ModelFingerprint fingerprint() {
  return {.architecture = "qwen2",
          .n_layers = 24,
          .n_kv_heads = 2,
          .head_dim = 64,
          .rope = "neox 64 1000000",
          .weights = hash_of("weights"),
          .tokenizer = hash_of("tokenizer")};
}

struct FieldCase {
  const char* difference;  // how the message begins
  std::function<void(ModelFingerprint&)> change;
};

const FieldCase kFields[] = {
    {"architecture (qwen2 here, llama there)", [](ModelFingerprint& f) { f.architecture = "llama"; }},
    {"n_layers (24 here, 28 there)", [](ModelFingerprint& f) { f.n_layers = 28; }},
    {"n_kv_heads (2 here, 4 there)", [](ModelFingerprint& f) { f.n_kv_heads = 4; }},
    {"head_dim (64 here, 128 there)", [](ModelFingerprint& f) { f.head_dim = 128; }},
    {"states (none here, 1 of up to 24 bytes there)",
     [](ModelFingerprint& f) {
       f.states.assign(24, 0);
       f.states.front() = 24;
     }},
    {"rope (neox 64 1000000 here, neox 64 10000 there)", [](ModelFingerprint& f) { f.rope = "neox 64 10000"; }},
    {"tokenizer (", [](ModelFingerprint& f) { f.tokenizer = hash_of("another"); }},
    {"weights (", [](ModelFingerprint& f) { f.weights = hash_of("another"); }},
};

TEST(ModelFingerprintTest, EqualFingerprintsShareAnIdAndHaveNoDifference) {
  EXPECT_EQ(fingerprint().id(), fingerprint().id());
  EXPECT_EQ(fingerprint().difference(fingerprint()), "");
}

TEST(ModelFingerprintTest, EveryFieldChangesTheIdAndIsNamedWhenItDiffers) {
  for (const FieldCase& field : kFields) {
    ModelFingerprint other = fingerprint();
    field.change(other);
    EXPECT_NE(fingerprint().id(), other.id()) << field.difference;
    EXPECT_THAT(fingerprint().difference(other), testing::StartsWith(field.difference));
  }
}

TEST(ModelFingerprintTest, NamesWhatAPersonRecognisesBeforeTheHashes) {
  ModelFingerprint other = fingerprint();
  other.weights = hash_of("another");
  other.tokenizer = hash_of("another");
  EXPECT_THAT(fingerprint().difference(other), testing::StartsWith("tokenizer"));
  other.n_layers = 28;
  EXPECT_THAT(fingerprint().difference(other), testing::StartsWith("n_layers"));
}

// Identities name packs on disks and in directories: a change here orphans every pack there is.
TEST(ModelFingerprintTest, TheIdIsStableAcrossBuilds) {
  EXPECT_EQ(fingerprint().id().hex(), "49893164e208ddd2c4753efb083c2b27c7d49400b91667cf75720fe44dc3eed7");
}

}  // namespace
}  // namespace celslm
