#include "serve/openai/answer_parser.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/openai/json_span.h"

namespace celslm {
namespace {

const ToolUse kTools{
    .tools = {{.name = "f", .parameters = R"({"properties": {"s": {"type": "string"}}})"}, {.name = "get-it"}},
    .choice = ToolChoice::kAuto};

// What came out, as one line: thoughts in parentheses, calls in brackets.
struct Collected {
  std::string content;
  std::string reasoning;
  std::vector<std::pair<std::string, std::string>> calls;

  void add(const AnswerDelta& delta) {
    content += delta.content;
    reasoning += delta.reasoning;
    for (const CallDelta& call : delta.calls) {
      ASSERT_LE(call.index, calls.size());
      ASSERT_EQ(call.index == calls.size(), !call.name.empty());
      if (call.index == calls.size()) calls.emplace_back(call.name, "");
      calls[call.index].second += call.arguments;
    }
  }
  std::string text() const {
    std::string out = reasoning.empty() ? "" : "(" + reasoning + ")";
    out += content;
    for (const auto& [name, arguments] : calls) out += "[" + name + " " + arguments + "]";
    return out;
  }
};

std::string parsed(const ChatStyle& style, const ToolUse& use, std::string_view text, std::size_t first, std::size_t piece) {
  AnswerParser parser(style, use, style.begins_in_thoughts);
  Collected out;
  out.add(parser.add(text.substr(0, first)));
  text.remove_prefix(std::min(first, text.size()));
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) out.add(parser.add(text.substr(0, piece)));
  out.add(parser.flush());
  EXPECT_EQ(parser.has_calls(), !out.calls.empty());
  return out.text();
}

// The same however the text is cut.
std::string parsed(const ChatStyle& style, std::string_view text, const ToolUse& use = kTools) {
  const std::string out = parsed(style, use, text, text.size(), 1);
  for (std::size_t cut = 0; cut < text.size(); ++cut) EXPECT_EQ(parsed(style, use, text, cut, text.size()), out) << cut;
  EXPECT_EQ(parsed(style, use, text, 0, 1), out) << "byte by byte";
  return out;
}
std::string parsed(ToolFormat format, std::string_view text) {
  return parsed(ChatStyle{.tools = format}, text);
}

struct Case {
  const char* text;
  const char* expected;
};

TEST(AnswerParserTest, Hermes) {
  const Case cases[] = {
      {"Hello", "Hello"},
      {"", ""},
      {"<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"}]\\\"\"}}\n</tool_call>", R"([f {"s": "}]\""}])"},
      {"I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"get-it\", "
       "\"arguments\": {\"a\": [1, {}]}}\n</tool_call>",
       R"(I look.[f {}][get-it {"a": [1, {}]}])"},
      {"<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call> Done.", " Done.[f {}]"},
      {"<tool_call>{\"name\": \"f\", \"arguments\": {}}", "[f {}]"},
      {"<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1", "[f {\"a\": 1]"},
      {"<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"}</tool_call>", R"([f {"a":1}])"},
      {"<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>", R"([f {"a": 1}])"},
      {"<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>", "[f {}]"},
      {"<tool_call>{\"type\": \"function\", \"name\": \"f\", \"id\": \"7\", \"arguments\": {}, \"x\": \"}\"}</tool_call>",
       "[f {}]"},
      {R"({"name": "f", "arguments": {"a": 1}})", R"([f {"a": 1}])"},
      {"```json\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n```", R"([f {"a": 1}])"},
      // No calls.
      {"<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>",
       "<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>"},
      {"<tool_call>Hello</tool_call>", "<tool_call>Hello</tool_call>"},
      {"<tool_call>{\"name\": \"f\"", "<tool_call>{\"name\": \"f\""},
      {"<tool_call>[1, 2]", "<tool_call>[1, 2]"},
      {"<tool_call", "<tool_call"},
      {"a <<tool_call>b  ", "a <<tool_call>b  "},
      {R"({"name": "Ann"} and more)", R"({"name": "Ann"} and more)"},
      {R"(An example: {"name": "f", "arguments": {}})", R"(An example: {"name": "f", "arguments": {}})"},
      {"```json\n{\"a\": 1}\n```", "```json\n{\"a\": 1}\n```"},
      {"  \n x", "  \n x"},
  };
  for (const Case& c : cases) EXPECT_EQ(parsed(ToolFormat::kHermes, c.text), c.expected) << c.text;
}

TEST(AnswerParserTest, Llama3) {
  const Case cases[] = {
      {R"({"name": "f", "parameters": {"s": "x"}})", R"([f {"s": "x"}])"},
      {R"(<|python_tag|>{"name": "f", "parameters": {}}; {"name": "get-it", "parameters": {"b": 2}})",
       R"([f {}][get-it {"b": 2}])"},
      {R"({"type": "function", "name": "f", "parameters": {}})", "[f {}]"},
      {R"({"type": "function", "function": "f", "parameters": {}})",
       R"({"type": "function", "function": "f", "parameters": {}})"},
      {"<|python_tag|>print(1)", "<|python_tag|>print(1)"},
  };
  for (const Case& c : cases) EXPECT_EQ(parsed(ToolFormat::kLlama3, c.text), c.expected) << c.text;
}

TEST(AnswerParserTest, Mistral) {
  const Case cases[] = {
      {R"([TOOL_CALLS][{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}, {"name": "get-it", "arguments": {}}])",
       R"([f {"a": 1}][get-it {}])"},
      {R"([TOOL_CALLS] [{"name": "f", "arguments": {}}])", "[f {}]"},
      {R"([TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]get-it[CALL_ID]123456789[ARGS]{})", R"([f {"a": 1}][get-it {}])"},
      {R"([TOOL_CALLS]f{"a": 1})", R"([f {"a": 1}])"},
      {R"([{"name": "f", "arguments": {}}])", "[f {}]"},
      {"[1] is a reference", "[1] is a reference"},
      {"[TOOL_CALLS]other[ARGS]{}", "[TOOL_CALLS]other[ARGS]{}"},
  };
  for (const ToolFormat format : {ToolFormat::kMistral, ToolFormat::kMistralNamed}) {
    for (const Case& c : cases) EXPECT_EQ(parsed(format, c.text), c.expected) << c.text;
  }
}

TEST(AnswerParserTest, Granite) {
  const Case cases[] = {
      {R"(<|tool_call|>[{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"a": 2}}])",
       R"([f {"a": 1}][f {"a": 2}])"},
      {R"(<|tool_call|>{"name": "f", "arguments": {}})", "[f {}]"},
      {"<tool_call>[{\"name\": \"f\", \"arguments\": {}}]</tool_call>", "[f {}]"},
      {"Text <|tool", "Text <|tool"},
  };
  for (const Case& c : cases) EXPECT_EQ(parsed(ToolFormat::kGranite, c.text), c.expected) << c.text;
}

TEST(AnswerParserTest, Gemma) {
  const Case cases[] = {
      {"<start_function_call>call:f{s:<escape>a, {b}<escape>,n:1,o:{t:true},l:[1,<escape>x<escape>]}<end_function_call>",
       R"([f {"s":"a, {b}","n":1,"o":{"t":true},"l":[1,"x"]}])"},
      {"<start_function_call>call:f{}<end_function_call><start_function_call>call:get-it{}", "[f {}][get-it {}]"},
      {"<start_function_call>call:f{a:x y}<end_function_call>", R"([f {"a":"x y"}])"},
      {"<start_function_call>call:f{a<end_function_call>", "<start_function_call>call:f{a<end_function_call>"},
      {"<start_function_call>call:f{a:}", "<start_function_call>call:f{a:}"},
  };
  for (const Case& c : cases) EXPECT_EQ(parsed(ToolFormat::kFunctionGemma, c.text), c.expected) << c.text;
  EXPECT_EQ(parsed(ToolFormat::kGemma4, "<|tool_call>call:f{s:<|\"|>a<|\"|>,n:-1.5}<tool_call|>"),
            R"([f {"s":"a","n":-1.5}])");
}

TEST(AnswerParserTest, QwenCoder) {
  const Case cases[] = {
      {"<tool_call>\n<function=f>\n<parameter=s>\n12\n</parameter>\n<parameter=n>\n12\n</parameter>\n<parameter=l>\n[1, "
       "\"a\"]\n</parameter>\n<parameter=o>\n{\"a\": {}}\n</parameter>\n<parameter=t>\ntwo\nlines\n</parameter>\n"
       "</function>\n</tool_call>",
       R"([f {"s":"12","n":12,"l":[1,"a"],"o":{"a":{}},"t":"two\nlines"}])"},
      {"<tool_call>\n<function=f>\n</function>\n</tool_call>\n<tool_call><function=get-it></function></tool_call>",
       "[f {}][get-it {}]"},
      {"<tool_call><function=f>x</function></tool_call>", "<tool_call><function=f>x</function></tool_call>"},
  };
  for (const Case& c : cases) EXPECT_EQ(parsed(ToolFormat::kQwenCoder, c.text), c.expected) << c.text;
}

TEST(AnswerParserTest, Generic) {
  const Case cases[] = {
      {R"({"tool_calls": [{"name": "f", "arguments": {"a": 1}}, {"name": "get-it", "arguments": {}}]})",
       R"([f {"a":1}][get-it {}])"},
      {R"({"tool_call": {"name": "f", "arguments": {}}})", "[f {}]"},
      {R"({"name": "f", "arguments": {}})", "[f {}]"},
      {R"({"tool_calls": [{"name": "f", "arguments": {}}, {"name": "other", "arguments": {}}]})",
       R"({"tool_calls": [{"name": "f", "arguments": {}}, {"name": "other", "arguments": {}}]})"},
      {R"({"tool_calls": 7})", R"({"tool_calls": 7})"},
  };
  for (const Case& c : cases) EXPECT_EQ(parsed(ToolFormat::kGeneric, c.text), c.expected) << c.text;
}

TEST(AnswerParserTest, ThoughtsAreKeptApart) {
  const ChatStyle style{.tools = ToolFormat::kHermes, .thoughts_open = "<think>", .thoughts_close = "</think>"};
  const Case cases[] = {
      {"<think>\nWell <b>, </th.\n\n</think>\n\nYes.", "(Well <b>, </th.)Yes."},
      {"<think>\n\n</think>\n\nYes.", "Yes."},
      {"\n<think>a b", "(a b)"},
      {"No <think>thoughts</think>", "No <think>thoughts</think>"},
      {"<thi", "<thi"},
      {"<think>x</think>\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", "(x)[f {}]"},
      {"<think>x <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call></think>y",
       "(x <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>)y"},
  };
  for (const Case& c : cases) EXPECT_EQ(parsed(style, c.text), c.expected) << c.text;
  const ChatStyle inside{.thoughts_open = "<think>", .thoughts_close = "</think>", .begins_in_thoughts = true};
  EXPECT_EQ(parsed(inside, "Hm.\n</think>\nYes.</think>"), "(Hm.)Yes.</think>");
  EXPECT_EQ(parsed(inside, "Hm."), "(Hm.)");
}

TEST(AnswerParserTest, WithoutToolsAllIsText) {
  const char* text = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
  EXPECT_EQ(parsed(ChatStyle{.tools = ToolFormat::kHermes}, text, {}), text);
  ToolUse none = kTools;
  none.choice = ToolChoice::kNone;
  EXPECT_EQ(parsed(ChatStyle{.tools = ToolFormat::kHermes}, text, none), text);
}

TEST(AnswerParserTest, OnlyOneCallWhereOneIsWanted) {
  ToolUse one = kTools;
  one.parallel = false;
  EXPECT_EQ(parsed(ChatStyle{.tools = ToolFormat::kMistral},
                   R"([TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "f", "arguments": {"a": 1}}])", one),
            "[f {}]");
}

TEST(AnswerParserTest, TheNumberOfCallsIsLimited) {
  std::string text = "[TOOL_CALLS][";
  for (int i = 0; i < 200; ++i) text += R"({"name": "f", "arguments": {}},)";
  AnswerParser parser(ChatStyle{.tools = ToolFormat::kMistral}, kTools, false);
  EXPECT_EQ(parser.add(text).calls.size(), kMaxCallsInAnswer);
}

TEST(AnswerParserTest, WhatIsHeldBackIsLimited) {
  const std::string text = "<tool_call>{\"a\": \"" + std::string(2 * kMaxHeldCallBytes, 'x');
  AnswerParser parser(ChatStyle{.tools = ToolFormat::kHermes}, kTools, false);
  EXPECT_EQ(parser.add(text).content, text);
}

TEST(CallHeadTest, IsFoundAtTheFirstByteOfItsArguments) {
  using State = CallHead::State;
  const std::string head = R"({"name": "f", "arguments": )";
  for (std::size_t n = 0; n <= head.size(); ++n) EXPECT_EQ(read_call_head(head.substr(0, n)).state, State::kMore) << n;
  EXPECT_EQ(read_call_head(head + "{").state, State::kFound);
  EXPECT_EQ(read_call_head(head + "{").name, "f");
  EXPECT_EQ(read_call_head(head + "{").arguments, head.size());
  for (const char* other :
       {"[", R"({"x":)", R"({"name": 1)", R"({"name": "a\)", R"({"arguments":)", R"({"name": "f" :)", "{}"})
    EXPECT_EQ(read_call_head(other).state, State::kOther) << other;
}

}  // namespace
}  // namespace celslm
