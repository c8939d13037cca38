#include "serve/load/codec_ladder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const Hash256 kModel = hash_of("a model");

json line(const char* name, double bits, double loss, double decode_mb_s = 800) {
  return {{"name", name},           {"model", "m.gguf"}, {"model_id", kModel.hex()},
          {"bits_per_value", bits}, {"loss", loss},      {"decode_mb_s", decode_mb_s}};
}

std::string file_of(const json& lines) {
  return json{{"version", 2}, {"codecs", lines}}.dump();
}

std::string measurements() {
  return file_of({line("t4", 4.15, 1.9), line("q8", 8.5, 0.4), line("t3", 3.1, 5.5), line("llama.cpp q8_0", 8.5, 0.3),
                  line("f16", 16, 0.0)});
}

CodecLadder ladder(double max_loss = kMaxCodecLoss) {
  return *CodecLadder::from_measurements(measurements(), kModel, max_loss);
}

std::vector<std::string> names_of(const CodecLadder& ladder) {
  std::vector<std::string> out;
  for (const CodecRung& rung : ladder.rungs()) out.emplace_back(rung.codec->name());
  return out;
}

// 24 layers of 128 values a row, 2,048 tokens: 25 MB in f16.
LoadOutlook outlook(double mbit, double layer_s = 0) {
  LoadOutlook out{.n_layers = 24, .values = 24ULL * 2 * 128 * 2048, .layer_s = layer_s, .max_compute_layers = 24};
  if (mbit > 0) out.link.rate_bytes_per_s.add(mbit * 125'000);
  return out;
}

std::string chosen(const LoadOutlook& outlook, double max_loss = kMaxCodecLoss) {
  return std::string(ladder(max_loss).choose(outlook).codec->name());
}

TEST(CodecLadderTest, HoldsOurCodecsWhoseLossIsSmallEnoughLeastLossFirst) {
  EXPECT_THAT(names_of(ladder()), testing::ElementsAre("f16", "q8", "t4"));
}

TEST(CodecLadderTest, HoldsACodecThatIsExactForF16WhateverWasMeasuredOfIt) {
  json lines = json::array({line("q8", 8.5, 0.4), line("f16z", 13.2, 9.0), line("bf16", 16, 0.1)});
  EXPECT_THAT(names_of(*CodecLadder::from_measurements(file_of(lines), kModel)), testing::ElementsAre("f16", "f16z", "q8"));
}

TEST(CodecLadderTest, LeavesOutACodecThatLosesAnswersBeyondChance) {
  json lines = json::array({line("q8", 8.5, 0.4), line("t4", 4.15, 1.9), line("t3", 3.1, 2.5)});
  lines[0]["accuracy_change_interval"] = {-0.05, 0.0};
  lines[1]["accuracy_change_interval"] = {-0.05, -0.01};
  lines[2]["accuracy_change_interval"] = nullptr;
  EXPECT_THAT(names_of(*CodecLadder::from_measurements(file_of(lines), kModel)), testing::ElementsAre("f16", "q8", "t3"));
}

TEST(CodecLadderTest, OfAnUnknownModelHoldsTheExactCodecsOnly) {
  const auto exact = CodecLadder::exact();
  EXPECT_THAT(names_of(exact), testing::ElementsAre("f16", "f16z"));
  EXPECT_EQ(exact.choose(outlook(0)).codec->name(), "f16z");
  EXPECT_EQ(exact.choose(outlook(50)).codec->name(), "f16z");
  EXPECT_EQ(exact.choose(outlook(50, 0.001)).codec->name(), "f16");
}

TEST(CodecLadderTest, TakesTheFewestBitsOnASlowLink) {
  EXPECT_EQ(chosen(outlook(10)), "t4");
  EXPECT_EQ(chosen(outlook(10), 6.0), "t3");
  EXPECT_EQ(chosen(outlook(10), 0.1), "f16");
}

TEST(CodecLadderTest, TakesTheBetterCodecWhereDecodingIsWhatTakesTime) {
  const auto slow =
      CodecLadder::from_measurements(file_of({line("q8", 8.5, 0.4, 20'000), line("t4", 4.15, 1.9, 100)}), kModel);
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
  EXPECT_THAT(reason, HasSubstr("its loss is 1.9 times"));
}

TEST(CodecLadderTest, RefusesWhatIsNoMeasurement) {
  for (const char* text : {"", "[]", "{", R"({"version": 2, "codecs": 3})", "null"}) {
    EXPECT_EQ(CodecLadder::from_measurements(text, kModel).error().kind, ErrorKind::kInvalid) << text;
  }
  EXPECT_EQ(CodecLadder::from_measurements(measurements(), hash_of("another")).error().kind, ErrorKind::kNotFound);
}

TEST(CodecLadderTest, RefusesAFileOfAnotherVersionWithTheCommandThatMakesANewOne) {
  for (const char* text : {R"({"codecs": []})", R"({"version": 3, "codecs": []})", R"({"version": "2", "codecs": []})"}) {
    const auto ladder = CodecLadder::from_measurements(text, kModel);
    ASSERT_FALSE(ladder) << text;
    EXPECT_EQ(ladder.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(ladder.error().message, HasSubstr("./dev bench codec --model GGUF --json FILE"));
  }
}

TEST(CodecLadderTest, LeavesOutLinesThatSayNonsense) {
  json lines = json::array({line("q8", -8.5, 0.4),
                            line("t4", 4.15, 1.9),
                            line("q8", 8.5, -1.0),
                            line("t2", 2.0, 0.5),
                            7,
                            nullptr,
                            {{"name", 3}}});
  lines[1]["loss"] = "small";
  lines[3]["accuracy_change_interval"] = {"high"};
  lines.push_back({{"model_id", kModel.hex()}, {"name", "t3"}});
  const auto ladder = CodecLadder::from_measurements(file_of(lines), kModel);
  ASSERT_TRUE(ladder);
  EXPECT_EQ(ladder->rungs().size(), 1U);
}

}  // namespace
}  // namespace celslm
