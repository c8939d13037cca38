#include "serve/openai/responses.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace celslm {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

ResponsesRequest request(const std::string& fields) {
  auto out = parse_responses_request("{" + fields + "}");
  EXPECT_TRUE(out) << fields << ": " << out.error().message;
  return out.value_or(ResponsesRequest{});
}
std::string refusal(const std::string& fields) {
  const auto out = parse_responses_request(R"({"input": "hi", )" + fields + "}");
  return out ? "accepted" : out.error().message;
}

TEST(ResponsesRequestTest, ATextIsAUsersMessageAndInstructionsAreTheSystems) {
  const CompletionRequest r = request(R"("input": "hi", "instructions": "be brief", "max_output_tokens": 5, "temperature": 1,
    "stream": true, "model": "m")")
                                  .completion;
  ASSERT_EQ(r.messages.size(), 2U);
  EXPECT_EQ(r.messages[0].role, "system");
  EXPECT_EQ(r.messages[0].content, "be brief");
  EXPECT_EQ(r.messages[1].content, "hi");
  EXPECT_EQ(r.max_tokens, 5);
  EXPECT_EQ(r.sampler.temperature, 1.0F);
  EXPECT_TRUE(r.stream && r.chat);
  EXPECT_EQ(r.model, "m");
}

TEST(ResponsesRequestTest, ItemsOfOneTurnAreOneMessage) {
  const auto messages = request(R"("instructions": "a", "input": [
    {"role": "developer", "content": "b"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look", "annotations": []}]},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{\"a\": 1}"},
    {"type": "function_call_output", "call_id": "c2", "output": "two"},
    {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "one"}]},
    {"type": "function_call", "call_id": "c3", "name": "f", "arguments": "{}"}])")
                            .completion.messages;
  ASSERT_EQ(messages.size(), 6U);
  EXPECT_EQ(messages[0].content, "a\n\nb");
  EXPECT_EQ(messages[1].content, "x\ny");
  EXPECT_EQ(messages[2].role, "assistant");
  EXPECT_EQ(messages[2].reasoning, "hm");
  EXPECT_EQ(messages[2].content, "I look");
  ASSERT_EQ(messages[2].tool_calls.size(), 2U);
  EXPECT_EQ(messages[2].tool_calls[1].id, "c2");
  EXPECT_EQ(messages[2].tool_calls[1].arguments, R"({"a": 1})");
  EXPECT_EQ(messages[3].role, "tool");
  EXPECT_EQ(messages[3].tool_call_id, "c2");
  EXPECT_EQ(messages[4].content, "one");
  EXPECT_EQ(messages[5].tool_calls.size(), 1U);
}

TEST(ResponsesRequestTest, ToolsAreFlat) {
  const ToolUse use = request(R"("input": "hi", "tools": [{"type": "function", "name": "f", "strict": true,
    "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}], "tool_choice": {"type": "function", "name": "f"})")
                          .completion.tools;
  EXPECT_EQ(use.choice, ToolChoice::kNamed);
  EXPECT_TRUE(use.tools[0].strict);
  EXPECT_THAT(
      use.definitions,
      HasSubstr(R"("function":{"name":"f","description":"","parameters":{"type":"object","properties":{"z":{},"a":{}}}})"));
}

TEST(ResponsesRequestTest, EffortTurnsThinkingOff) {
  EXPECT_TRUE(request(R"("input": "hi", "reasoning": {"effort": "high"})").completion.thinking);
  EXPECT_FALSE(request(R"("input": "hi", "reasoning": {"effort": "none"})").completion.thinking);
}

TEST(ResponsesRequestTest, WhatIsNotHonouredIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("previous_response_id": "resp_1")", "'previous_response_id' must be absent"},
      {R"("conversation": "c")", "'conversation'"},
      {R"("prompt": {"id": "p"})", "'prompt'"},
      {R"("background": true)", "'background' must be false"},
      {R"("truncation": "auto")", "'truncation'"},
      {R"("include": ["message.output_text.logprobs"])", "'include'"},
      {R"("top_logprobs": 2)", "'top_logprobs'"},
      {R"("max_output_tokens": 0)", "'max_output_tokens'"},
      {R"("tools": [{"type": "web_search"}])", "'tools[0].type' must be 'function'"},
      {R"("temperature": "hot")", "'temperature'"},
      {R"("instructions": 7)", "'instructions'"},
      {R"("reasoning": {"effort": "x"})", "'reasoning.effort'"},
  };
  for (const auto& [fields, reason] : cases) EXPECT_THAT(refusal(fields), HasSubstr(reason)) << fields;
  for (const char* fields :
       {R"("store": true)", R"("background": false)", R"("include": [])", R"("user": "u")", R"("metadata": {"a": "b"})"})
    EXPECT_EQ(refusal(fields), "accepted") << fields;
  const std::pair<const char*, const char*> inputs[] = {
      {"7", "'input' must be"},
      {"[]", "'input' must be"},
      {R"([{"type": "item_reference", "id": "x"}])", "not 'item_reference'"},
      {R"([{"role": "tool", "content": "x"}])", "'input[0].role'"},
      {R"([{"role": "user", "content": [{"type": "input_image"}]}])", "'input[0].content[0].type' must be a kind of text"},
      {R"([{"type": "function_call", "call_id": "c", "name": "<", "arguments": ""}])", "letters"},
      {R"([{"type": "function_call_output", "call_id": "c"}])", "'input[0].output'"},
  };
  for (const auto& [input, reason] : inputs) {
    const auto out = parse_responses_request(fmt::format(R"({{"input": {}}})", input));
    EXPECT_THAT(out ? "accepted" : out.error().message, HasSubstr(reason)) << input;
  }
}

// Types of events in order, and the last event's data.
std::vector<std::string> types_in(std::string_view events) {
  std::vector<std::string> out;
  int number = 0;
  while (!events.empty()) {
    const std::size_t end = events.find("\n\n");
    const std::string_view one = events.substr(0, end);
    const std::size_t line = one.find('\n');
    const json data = json::parse(one.substr(line + 7));
    EXPECT_EQ(fmt::format("event: {}", data["type"].get<std::string>()), one.substr(0, line));
    EXPECT_EQ(data["sequence_number"], number++);
    out.push_back(data["type"].get<std::string>().substr(9));
    events.remove_prefix(end + 2);
  }
  return out;
}

TEST(ResponsesWriterTest, TextComesBetweenItsEvents) {
  ResponsesWriter w(request(R"("input": "hi", "metadata": {"a": "b"})"), "m", "7", 1700000000);
  std::string events = w.begin();
  events += w.add({.content = "a", .reasoning = "", .calls = {}});
  events += w.add({.content = "b", .reasoning = "", .calls = {}});
  events +=
      w.end(FinishReason::kStop, {.prompt_tokens = 3, .cached_tokens = 1, .completion_tokens = 2}, {{"context", nullptr}});
  EXPECT_THAT(types_in(events),
              ElementsAre("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
                          "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"));
  const json& r = w.response();
  EXPECT_EQ(r["object"], "response");
  EXPECT_EQ(r["id"], "resp_7");
  EXPECT_EQ(r["status"], "completed");
  EXPECT_EQ(r["metadata"], json({{"a", "b"}}));
  EXPECT_EQ(r["output"][0]["type"], "message");
  EXPECT_EQ(r["output"][0]["status"], "completed");
  EXPECT_EQ(r["output"][0]["content"][0]["text"], "ab");
  EXPECT_EQ(r["usage"]["total_tokens"], 5);
  EXPECT_EQ(r["usage"]["input_tokens_details"]["cached_tokens"], 1);
  EXPECT_FALSE(r["store"]);
}

TEST(ResponsesWriterTest, ThoughtsAndCallsAreItems) {
  ResponsesWriter w(request(R"("input": "hi")"), "m", "7", 0);
  std::string events = w.begin();
  events += w.add({.content = "", .reasoning = "hm", .calls = {}});
  events += w.add({.content = "", .reasoning = "", .calls = {{.index = 0, .name = "f", .arguments = "{"}}});
  events += w.add({.content = "",
                   .reasoning = "",
                   .calls = {{.index = 0, .name = "", .arguments = "}"}, {.index = 1, .name = "g", .arguments = "{}"}}});
  events += w.end(FinishReason::kLength, {}, nullptr);
  EXPECT_THAT(types_in(events),
              ElementsAre("created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta",
                          "reasoning_text.done", "content_part.done", "output_item.done",  //
                          "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
                          "function_call_arguments.done", "output_item.done",  //
                          "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
                          "output_item.done", "incomplete"));
  const json& output = w.response()["output"];
  ASSERT_EQ(output.size(), 3U);
  EXPECT_EQ(output[0]["type"], "reasoning");
  EXPECT_EQ(output[0]["content"][0]["text"], "hm");
  EXPECT_EQ(output[1]["name"], "f");
  EXPECT_EQ(output[1]["arguments"], "{}");
  EXPECT_EQ(output[1]["call_id"], "call_7000");
  EXPECT_EQ(output[2]["call_id"], "call_7001");
  EXPECT_EQ(output[2]["status"], "incomplete");
  EXPECT_EQ(w.response()["incomplete_details"]["reason"], "max_output_tokens");
}

TEST(ResponsesWriterTest, AnEmptyAnswerIsAnEmptyMessageAndAFailureIsShown) {
  ResponsesWriter empty(request(R"("input": "hi")"), "m", "7", 0);
  empty.begin();
  empty.end(FinishReason::kStop, {}, nullptr);
  EXPECT_EQ(empty.response()["output"][0]["content"][0]["text"], "");
  ResponsesWriter failing(request(R"("input": "hi")"), "m", "7", 0);
  failing.begin();
  failing.add({.content = "a", .reasoning = "", .calls = {}});
  EXPECT_THAT(failing.fail({.kind = ErrorKind::kInternal, .message = "why"}), HasSubstr("event: response.failed"));
  EXPECT_EQ(failing.response()["error"]["message"], "why");
}

}  // namespace
}  // namespace celslm
