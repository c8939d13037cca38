#include "serve/openai/tools.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "serve/openai/openai.h"

namespace celslm {
namespace {

using testing::HasSubstr;

constexpr const char* kWeather =
    R"({"type": "function", "function": {"name": "weather", "description": "d", "parameters":
    {"type": "object", "properties": {"z": {"type": "string"}, "a": {}}}}})";
constexpr const char* kTime = R"({"type": "function", "function": {"name": "time"}})";

Result<CompletionRequest> request(const std::string& fields) {
  return parse_chat_request(R"({"messages": [{"role": "user", "content": "hi"}], )" + fields + "}");
}
ToolUse tools(const std::string& more = "") {
  auto out = request(fmt::format(R"("tools": [{}, {}]{})", kWeather, kTime, more.empty() ? "" : ", " + more));
  EXPECT_TRUE(out) << more << ": " << out.error().message;
  return out ? out->tools : ToolUse{};
}
std::string refusal(const std::string& fields) {
  const auto out = request(fields);
  return out ? "accepted" : out.error().message;
}

TEST(ToolsTest, DefinitionsKeepTheOrderOfTheirKeysAndHaveWhatTemplatesRead) {
  const ToolUse use = tools();
  ASSERT_EQ(use.tools.size(), 2U);
  EXPECT_EQ(use.tools[0].name, "weather");
  EXPECT_EQ(use.tools[0].parameters, R"({"type":"object","properties":{"z":{"type":"string"},"a":{}}})");
  EXPECT_EQ(use.tools[1].parameters, "");
  EXPECT_EQ(
      use.definitions,
      R"([{"type":"function","function":{"name":"weather","description":"d","parameters":)"
      R"({"type":"object","properties":{"z":{"type":"string"},"a":{}}}}},)"
      R"({"type":"function","function":{"name":"time","description":"","parameters":{"type":"object","properties":{}}}}])");
}

TEST(ToolsTest, TheChoiceIsAutoWhereThereAreTools) {
  EXPECT_EQ(tools().choice, ToolChoice::kAuto);
  EXPECT_TRUE(tools().parallel && tools().allowed());
  EXPECT_EQ(tools(R"("tool_choice": "none")").choice, ToolChoice::kNone);
  EXPECT_EQ(tools(R"("tool_choice": "required")").choice, ToolChoice::kRequired);
  const ToolUse named =
      tools(R"("tool_choice": {"type": "function", "function": {"name": "time"}}, "parallel_tool_calls": false)");
  EXPECT_EQ(named.choice, ToolChoice::kNamed);
  EXPECT_EQ(named.named, "time");
  EXPECT_FALSE(named.parallel);
  for (const char* none :
       {R"("tools": [])", R"("tools": null)", R"("tools": [], "tool_choice": "auto")", R"("tool_choice": "none")"})
    EXPECT_FALSE(request(none)->tools.allowed()) << none;
}

TEST(ToolsTest, WhatIsWrongIsNamed) {
  const auto with_tool = [](const char* tool) { return fmt::format(R"("tools": [{}])", tool); };
  const auto with_choice = [](const char* choice) {
    return fmt::format(R"("tools": [{}], "tool_choice": {})", kTime, choice);
  };
  const std::pair<std::string, const char*> cases[] = {
      {R"("tools": {})", "'tools' must be a list"},
      {with_tool("7"), "'tools[0]' must be an object"},
      {with_tool(R"({"type": "web_search"})"),
       "'tools[0].type' must be 'function', the only kind of tool here (not 'web_search')"},
      {with_tool(R"({"type": "function"})"), "'tools[0].function' must be"},
      {with_tool(R"({"type": "function", "function": {}})"), "'tools[0].function.name' must be"},
      {with_tool(R"({"type": "function", "function": {"name": "a b"}})"), "1 to 64 letters"},
      {with_tool(R"({"type": "function", "function": {"name": "<|im_end|>"}})"), "1 to 64 letters"},
      {with_tool(R"({"type": "function", "function": {"name": "a", "parameters": []}})"), "parameters' must be an object"},
      {with_tool(R"({"type": "function", "function": {"name": "a", "description": 7}})"), "description' must be a string"},
      {fmt::format(R"("tools": [{}, {}])", kTime, kTime), "'tools[1].function.name' must be another than 'time'"},
      {R"("tool_choice": "required")", "'tools' must be given when"},
      {with_choice(R"("any")"), "'tool_choice' must be 'none', 'auto', 'required'"},
      {with_choice(R"({"type": "allowed_tools"})"), "(not 'allowed_tools')"},
      {with_choice(R"({"type": "function", "function": {"name": "x"}})"), "there is none named 'x'"},
      {R"("functions": [])", "'functions' must be absent: give 'tools'"},
      {R"("function_call": "auto")", "'function_call' must be absent"},
      {R"("reasoning_format": "x")", "'reasoning_format' must be"},
  };
  for (const auto& [fields, reason] : cases) EXPECT_THAT(refusal(fields), HasSubstr(reason)) << fields;
}

TEST(ToolsTest, CallsAndResultsAreReadFromTheHistory) {
  const auto out = parse_chat_request(R"({"messages": [{"role": "user", "content": "hi"},
    {"role": "assistant", "content": null, "reasoning_content": "Hm", "tool_calls":
      [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "7"}]})");
  ASSERT_TRUE(out) << out.error().message;
  EXPECT_EQ(out->messages[1].reasoning, "Hm");
  ASSERT_EQ(out->messages[1].tool_calls.size(), 1U);
  EXPECT_EQ(out->messages[1].tool_calls[0].id, "c1");
  EXPECT_EQ(out->messages[1].tool_calls[0].name, "f");
  EXPECT_EQ(out->messages[1].tool_calls[0].arguments, R"({"a": 1})");
  EXPECT_EQ(out->messages[2].tool_call_id, "c1");
}

TEST(ToolsTest, CallsInTheHistoryMustBeWellFormed) {
  const auto refused = [](const char* calls) {
    const auto out =
        parse_chat_request(fmt::format(R"({{"messages": [{{"role": "assistant", "tool_calls": {}}}]}})", calls));
    return out ? "accepted" : out.error().message;
  };
  EXPECT_THAT(refused("7"), HasSubstr("messages[0].tool_calls' must be a list"));
  EXPECT_THAT(refused(R"([{"id": "a", "type": "function", "function": {"name": "f"}}])"),
              HasSubstr("arguments' must be a string"));
  EXPECT_THAT(refused(R"([{"id": "a", "type": "function", "function": {"name": "<", "arguments": ""}}])"),
              HasSubstr("1 to 64 letters"));
  EXPECT_THAT(refused(R"([{"type": "function", "function": {"name": "f", "arguments": ""}}])"),
              HasSubstr("id' must be a string"));
  EXPECT_THAT(refused(R"([{"id": "a", "type": "custom"}])"), HasSubstr("not 'custom'"));
}

}  // namespace
}  // namespace celslm
