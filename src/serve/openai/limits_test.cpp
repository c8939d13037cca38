// One more than each limit on a client's request. docs/trust.md has the attacks that they stop.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "serve/openai/openai.h"
#include "serve/openai/tools.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string problem(const json& fields) {
  json body{{"messages", {{{"role", "user"}, {"content", "x"}}}}};
  body.update(fields);
  const auto request = parse_chat_request(body.dump());
  return request ? "none" : request.error().message;
}

json tool(const std::string& name, const std::string& description = "") {
  return {{"type", "function"}, {"function", {{"name", name}, {"description", description}}}};
}

TEST(OpenaiLimitsTest, Tools) {
  json tools = json::array();
  for (std::size_t i = 0; i < kMaxTools; ++i) tools.push_back(tool(fmt::format("t{}", i)));
  EXPECT_EQ(problem({{"tools", tools}}), "none");
  tools.push_back(tool("one-more"));
  EXPECT_THAT(problem({{"tools", tools}}), HasSubstr("'tools'"));
}

TEST(OpenaiLimitsTest, NameOfATool) {
  EXPECT_EQ(problem({{"tools", json::array({tool(std::string(kMaxToolName, 't'))})}}), "none");
  EXPECT_THAT(problem({{"tools", json::array({tool(std::string(kMaxToolName + 1, 't'))})}}), HasSubstr("name"));
}

TEST(OpenaiLimitsTest, DefinitionsOfTools) {
  EXPECT_EQ(problem({{"tools", json::array({tool("t", std::string(kMaxToolBytes / 2, 'd'))})}}), "none");
  EXPECT_THAT(problem({{"tools", json::array({tool("t", std::string(kMaxToolBytes + 1, 'd'))})}}), HasSubstr("'tools'"));
}

TEST(OpenaiLimitsTest, StopStrings) {
  json stop = json::array();
  for (std::size_t i = 0; i < kMaxStops; ++i) stop.push_back(std::string(kMaxStopBytes, 's'));
  EXPECT_EQ(problem({{"stop", stop}}), "none");
  stop.push_back("s");
  EXPECT_THAT(problem({{"stop", stop}}), HasSubstr("'stop'"));
  EXPECT_THAT(problem({{"stop", std::string(kMaxStopBytes + 1, 's')}}), HasSubstr("'stop'"));
}

TEST(OpenaiLimitsTest, Biases) {
  json biases = json::object();
  for (std::size_t i = 0; i < kMaxBiases; ++i) biases[std::to_string(i)] = 1;
  EXPECT_EQ(problem({{"logit_bias", biases}}), "none");
  biases["100000"] = 1;
  EXPECT_THAT(problem({{"logit_bias", biases}}), HasSubstr("'logit_bias'"));
}

TEST(OpenaiLimitsTest, TextsAndLogprobs) {
  EXPECT_EQ(problem({{"n", kMaxTexts}}), "none");
  EXPECT_THAT(problem({{"n", kMaxTexts + 1}}), HasSubstr("'n'"));
  EXPECT_EQ(problem({{"logprobs", true}, {"top_logprobs", kMaxTopLogprobs}}), "none");
  EXPECT_THAT(problem({{"logprobs", true}, {"top_logprobs", kMaxTopLogprobs + 1}}), HasSubstr("'top_logprobs'"));
}

TEST(OpenaiLimitsTest, CallsInAMessage) {
  const auto calls = [](std::size_t n, std::size_t id_bytes) {
    json list = json::array();
    for (std::size_t i = 0; i < n; ++i) {
      std::string id = std::to_string(i);
      id.resize(std::max(id.size(), id_bytes), 'i');
      list.push_back({{"id", id}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", "{}"}}}});
    }
    json messages = json::array({{{"role", "user"}, {"content", "x"}}, {{"role", "assistant"}, {"tool_calls", list}}});
    for (const json& call : list) messages.push_back({{"role", "tool"}, {"tool_call_id", call["id"]}, {"content", "r"}});
    return json{{"messages", messages}};
  };
  EXPECT_EQ(problem(calls(kMaxCallsInMessage, 1)), "none");
  EXPECT_THAT(problem(calls(kMaxCallsInMessage + 1, 1)), HasSubstr("tool_calls"));
  EXPECT_EQ(problem(calls(1, kMaxCallIdBytes)), "none");
  EXPECT_THAT(problem(calls(1, kMaxCallIdBytes + 1)), HasSubstr("id"));
}

}  // namespace
}  // namespace celslm
