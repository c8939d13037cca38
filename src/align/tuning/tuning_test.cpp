#include "align/tuning/tuning.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "core/file.h"
#include "model/gguf/gguf_contents.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::TemporaryFolder;

constexpr int kLayers = 3;
constexpr int kWidth = 5;

std::vector<float> values(float first) {
  std::vector<float> out;
  for (int i = 0; i < kLayers * kWidth; ++i) out.push_back(first + 0.25F * static_cast<float>(i));
  return out;
}

Tuning some_tuning() {
  Tuning out{.model = hash_of("small"), .teacher = "Large", .teacher_id = hash_of("large"), .corpus = "two manuals"};
  out.constants = {.n_layers = kLayers, .kv_width = kWidth, .k = values(-1.0F), .v = values(2.0F)};
  out.constants.id = tuning_id(out);
  return out;
}

// A file with its contents changed.
Bytes changed(const std::function<void(GgufContents&)>& change, const Tuning& tuning = some_tuning()) {
  GgufContents contents = parse_gguf(encode_tuning(tuning)).value();
  change(contents);
  return encode_gguf(contents);
}

Error refusal(const Bytes& file) {
  const auto tuning = parse_tuning(file);
  return tuning ? Error{ErrorKind::kInternal, "was accepted"} : tuning.error();
}

TEST(TuningTest, RoundTrips) {
  Tuning tuning = some_tuning();
  const Tuning again = parse_tuning(encode_tuning(tuning)).value();
  EXPECT_EQ(again.model, tuning.model);
  EXPECT_EQ(again.teacher, tuning.teacher);
  EXPECT_EQ(again.teacher_id, tuning.teacher_id);
  EXPECT_EQ(again.corpus, tuning.corpus);
  EXPECT_EQ(again.gate, "");
  EXPECT_EQ(again.constants.id, tuning.constants.id);
  EXPECT_EQ(again.constants.n_layers, kLayers);
  EXPECT_EQ(again.constants.kv_width, kWidth);
  EXPECT_EQ(again.constants.k, tuning.constants.k);
  EXPECT_EQ(again.constants.v, tuning.constants.v);
  EXPECT_FALSE(again.signature);
}

TEST(TuningTest, TheIdCoversEverythingButTheSignature) {
  const Tuning tuning = some_tuning();
  const auto other = [&](const std::function<void(Tuning&)>& change) {
    Tuning out = tuning;
    change(out);
    return tuning_id(out) != tuning_id(tuning);
  };
  EXPECT_TRUE(other([](Tuning& t) { t.model = hash_of("other"); }));
  EXPECT_TRUE(other([](Tuning& t) { t.teacher += "r"; }));
  EXPECT_TRUE(other([](Tuning& t) { t.teacher_id = {}; }));
  EXPECT_TRUE(other([](Tuning& t) { t.corpus = "one manual"; }));
  EXPECT_TRUE(other([](Tuning& t) { t.gate = "{}"; }));
  EXPECT_TRUE(other([](Tuning& t) { t.constants.k[7] += 1.0F; }));
  EXPECT_TRUE(other([](Tuning& t) { t.constants.v[0] = -0.5F; }));
  EXPECT_TRUE(other([](Tuning& t) { std::swap(t.constants.k, t.constants.v); }));
  Tuning signed_one = tuning;
  sign_tuning(signed_one, SigningKey::generate().value());
  EXPECT_EQ(signed_one.constants.id, tuning_id(tuning));
}

// What docs/tuning-format.md promises to those who compute ids themselves.
TEST(TuningTest, TheIdIsThatOfTheDocument) {
  const Tuning tuning = some_tuning();
  ByteWriter out;
  out.u64(17);
  out.bytes(as_bytes("celslm.tuning.id."));
  out.u32(1);
  out.bytes(std::as_bytes(std::span(tuning.model.bytes)));
  out.text("Large");
  out.bytes(std::as_bytes(std::span(tuning.teacher_id.bytes)));
  out.text("two manuals");
  out.text("");
  out.u32(kLayers);
  out.u32(kWidth);
  for (const float value : values(-1.0F)) out.f32(value);
  for (const float value : values(2.0F)) out.f32(value);
  EXPECT_EQ(tuning_id(tuning), hash_of(out.data()));
}

TEST(TuningTest, SignaturesAreKeptAndChecked) {
  const SigningKey key = SigningKey::generate().value();
  Tuning tuning = some_tuning();
  sign_tuning(tuning, key);
  const Tuning again = parse_tuning(encode_tuning(tuning)).value();
  ASSERT_TRUE(again.signature);
  EXPECT_EQ(again.signature->signer, key.public_key());

  const auto forged = [&](const std::function<void(GgufContents&)>& change) {
    const Error error = refusal(changed(change, tuning));
    EXPECT_EQ(error.kind, ErrorKind::kMismatch) << error.message;
    EXPECT_THAT(error.message, HasSubstr("changed or forged"));
  };
  forged([](GgufContents& c) { c.matrices["v"].values[3] += 0.5F; });
  forged([](GgufContents& c) { c.texts["celslm.tuning.gate"] = R"({"state":"passed"})"; });
  forged([](GgufContents& c) { c.texts["celslm.tuning.corpus"] = "every manual"; });
  forged([](GgufContents& c) {
    c.texts["celslm.tuning.signer"] = SigningKey::generate().value().public_key().hex();  // not who signed
  });
}

TEST(TuningTest, FilesThatDoNotFitAreRefusedByName) {
  const auto expect = [](const char* words, const std::function<void(GgufContents&)>& change) {
    const Error error = refusal(changed(change));
    EXPECT_EQ(error.kind, ErrorKind::kInvalid) << words;
    EXPECT_THAT(error.message, HasSubstr(words));
  };
  expect("is not a tuning", [](GgufContents& c) { c.texts["general.architecture"] = "qwen2"; });
  expect("version 2 is not supported", [](GgufContents& c) { c.numbers["celslm.tuning.version"] = 2; });
  expect("version 0 is not supported", [](GgufContents& c) { c.numbers.clear(); });
  expect("no celslm.tuning.model", [](GgufContents& c) { c.texts.erase("celslm.tuning.model"); });
  expect("celslm.tuning.model", [](GgufContents& c) { c.texts["celslm.tuning.model"] = "abc"; });
  expect("'celslm.tuning.scale' is unknown", [](GgufContents& c) { c.texts["celslm.tuning.scale"] = "2"; });
  expect("'celslm.tuning.gate' is unknown, or of another type",
         [](GgufContents& c) { c.numbers["celslm.tuning.gate"] = 1; });
  expect("teacher", [](GgufContents& c) { c.texts.erase("celslm.tuning.teacher"); });
  expect("not UTF-8", [](GgufContents& c) { c.texts["celslm.tuning.corpus"] = "\xFF"; });
  expect("corpus has 4097 bytes", [](GgufContents& c) { c.texts["celslm.tuning.corpus"] = std::string(4097, 'x'); });
  expect("signature", [](GgufContents& c) { c.texts["celslm.tuning.signer"] = PublicKey{}.hex(); });
  expect("no tensor 'v'", [](GgufContents& c) { c.matrices.erase("v"); });
  expect("tensor 'bias' is unknown", [](GgufContents& c) { c.matrices["bias"] = c.matrices["v"]; });
  expect("'v' is [1][15], expected [3][5]", [](GgufContents& c) {
    c.matrices["v"].rows = 1;
    c.matrices["v"].columns = kLayers * kWidth;
  });
  expect("k[1][2] is nan", [](GgufContents& c) { c.matrices["k"].values[kWidth + 2] = std::nanf(""); });
  expect("v[0][0] is -inf", [](GgufContents& c) { c.matrices["v"].values[0] = -std::numeric_limits<float>::infinity(); });
  expect("at most 512 of 65536", [](GgufContents& c) {
    c.matrices["k"] = c.matrices["v"] = {.rows = 513, .columns = 1, .values = std::vector<float>(513)};
  });
}

TEST(TuningTest, DamagedFilesAreRefused) {
  const Bytes file = encode_tuning(some_tuning());
  for (std::size_t n = 0; n < file.size() - 64; n += 7) EXPECT_FALSE(parse_tuning(ByteView(file).first(n))) << n;
  EXPECT_THAT(refusal(Bytes(kMaxTuningBytes + 1)).message, HasSubstr("at most"));
}

TEST(TuningTest, FilesAreReadAndWritten) {
  const TemporaryFolder folder;
  Tuning tuning = some_tuning();
  ASSERT_TRUE(write_tuning(folder / "t.gguf", tuning));
  EXPECT_EQ(read_tuning(folder / "t.gguf")->constants.id, tuning.constants.id);
  EXPECT_EQ(read_tuning(folder / "none.gguf").error().kind, ErrorKind::kNotFound);
  tuning.constants.v.pop_back();
  EXPECT_THAT(write_tuning(folder / "t.gguf", tuning).error().message, HasSubstr("v has 14 values; expected 15"));
}

TEST(TuningTest, IsForOneModelOnly) {
  const ModelFingerprint model{.architecture = "qwen2", .n_layers = 3, .n_kv_heads = 1, .head_dim = 5};
  Tuning tuning = some_tuning();
  EXPECT_THAT(check_model(tuning, model).error().message, HasSubstr("the tuning is for the model"));
  tuning.model = model.id();
  EXPECT_TRUE(check_model(tuning, model));
  tuning.constants.n_layers = 2;
  EXPECT_EQ(check_model(tuning, model).error().kind, ErrorKind::kMismatch);
}

}  // namespace
}  // namespace celslm
