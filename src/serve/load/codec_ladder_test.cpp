#include "serve/load/codec_ladder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const Hash256 kModel = hash_of("a model");

json line(const char* name, double bits, double agreement, double decode_mb_s = 800) {
  return {{"name", name},           {"model", "m.gguf"},     {"model_id", kModel.hex()},
          {"bits_per_value", bits}, {"greedy64", agreement}, {"decode_mb_s", decode_mb_s}};
}

std::string measurements() {
  return json{{"codecs",
               {line("q8", 8.5, 0.997), line("t4", 4.15, 0.995), line("t3", 3.1, 0.987), line("llama.cpp q8_0", 8.5, 0.999),
                line("f16", 16, 1.0)}}}
      .dump();
}

CodecLadder ladder(double least_agreement = 0.99) {
  return *CodecLadder::from_measurements(measurements(), kModel, least_agreement);
}

// 24 layers of 128 values a row, 2,048 tokens: 25 MB in f16.
LoadOutlook outlook(double mbit, double layer_s = 0) {
  LoadOutlook out{.n_layers = 24, .values = 24ULL * 2 * 128 * 2048, .layer_s = layer_s, .max_compute_layers = 24};
  if (mbit > 0) out.link.rate_bytes_per_s.add(mbit * 125'000);
  return out;
}

std::string chosen(const LoadOutlook& outlook, double least_agreement = 0.99) {
  return std::string(ladder(least_agreement).choose(outlook).codec->name());
}

TEST(CodecLadderTest, HoldsOurCodecsThatAgreeEnough) {
  std::vector<std::string> names;
  for (const CodecRung& rung : ladder().rungs()) names.emplace_back(rung.codec->name());
  EXPECT_THAT(names, testing::ElementsAre("f16", "q8", "t4"));
}

TEST(CodecLadderTest, TakesTheFewestBitsOnASlowLink) {
  EXPECT_EQ(chosen(outlook(10)), "t4");
  EXPECT_EQ(chosen(outlook(10), 0.98), "t3");
  EXPECT_EQ(chosen(outlook(10), 0.999), "f16");
}

TEST(CodecLadderTest, TakesTheBetterCodecWhereDecodingIsWhatTakesTime) {
  const auto slow = CodecLadder::from_measurements(
      json{{"codecs", {line("q8", 8.5, 0.997, 20'000), line("t4", 4.15, 0.995, 100)}}}.dump(), kModel, 0.99);
  ASSERT_TRUE(slow);
  EXPECT_EQ(slow->choose(outlook(10)).codec->name(), "t4");
  EXPECT_EQ(slow->choose(outlook(1000)).codec->name(), "q8");
}

TEST(CodecLadderTest, StaysExactWhereComputingIsSoonerThanAnyFetch) {
  EXPECT_EQ(chosen(outlook(10, 0.3)), "t4");
  EXPECT_EQ(chosen(outlook(1, 0.001)), "f16");
}

TEST(CodecLadderTest, TakesTheFewestBitsWhileTheLinkIsUnknown) {
  EXPECT_EQ(chosen(outlook(0)), "t4");
}

TEST(CodecLadderTest, SaysWhy) {
  const std::string reason = ladder().choose(outlook(10)).reason;
  EXPECT_THAT(reason, HasSubstr("at 10 Mbit/s"));
  EXPECT_THAT(reason, HasSubstr("agreement 0.995"));
}

TEST(CodecLadderTest, RefusesWhatIsNoMeasurement) {
  for (const char* text : {"", "[]", "{", "{\"codecs\": 3}", "null"}) {
    EXPECT_EQ(CodecLadder::from_measurements(text, kModel, 0.99).error().kind, ErrorKind::kInvalid) << text;
  }
  EXPECT_EQ(CodecLadder::from_measurements(measurements(), hash_of("another"), 0.99).error().kind, ErrorKind::kNotFound);
}

TEST(CodecLadderTest, LeavesOutLinesThatSayNonsense) {
  json lines = json::array({line("q8", -8.5, 0.997), line("t4", 4.15, 0.995), 7, nullptr, {{"name", 3}}});
  lines[1]["greedy64"] = "good";
  lines.push_back({{"model_id", kModel.hex()}, {"name", "t3"}});
  const auto ladder = CodecLadder::from_measurements(json{{"codecs", lines}}.dump(), kModel, 0.5);
  ASSERT_TRUE(ladder);
  EXPECT_EQ(ladder->rungs().size(), 1U);
}

}  // namespace
}  // namespace celslm
