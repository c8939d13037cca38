#include "serve/openai/tool_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <llama.h>

#include <cmath>

#include "model/grammar/json_schema.h"
#include "model/text/vocabulary.h"
#include "serve/openai/answer_parser.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing::HasSubstr;

// Whether the complete text is an answer by this grammar, as libllama reads it.
bool accepts(const std::string& grammar, const std::string& text) {
  static const testing_support::TemporaryFolder folder;
  static const std::unique_ptr<const Text> vocabulary = [] {
    testing_support::write_random_model(folder / "m.gguf", {});
    return *Text::load(folder / "m.gguf");
  }();
  const llama_vocab* vocab = vocabulary->impl().vocab;
  const std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)> sampler(
      llama_sampler_init_grammar(vocab, grammar.c_str(), "root"), llama_sampler_free);
  if (!sampler) {
    ADD_FAILURE() << "not a grammar:\n" << grammar;
    return false;
  }
  const auto allows = [&](Token token) {
    llama_token_data candidate{.id = token, .logit = 0.0F, .p = 0.0F};
    llama_token_data_array all{.data = &candidate, .size = 1, .selected = -1, .sorted = false};
    llama_sampler_apply(sampler.get(), &all);
    return std::isfinite(candidate.logit);
  };
  for (const Token token : vocabulary->tokenize(text, false, false)) {
    if (!allows(token)) return false;
    llama_sampler_accept(sampler.get(), token);
  }
  return allows(llama_vocab_eos(vocab));
}

constexpr const char* kCity = R"({"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}},
  "required": ["city"], "additionalProperties": false})";

ToolUse use(ToolChoice choice, bool parallel = true) {
  return {.tools = {{.name = "weather", .parameters = kCity}, {.name = "now", .parameters = ""}},
          .definitions = {},
          .choice = choice,
          .named = choice == ToolChoice::kNamed ? "weather" : "",
          .parallel = parallel};
}

struct Case {
  ToolFormat format;
  const char* one;  // weather in Oslo
  const char* two;  // and now
  const char* trigger;
};

// clang-format off
const Case kCases[] = {
    {ToolFormat::kHermes, "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>",
     "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
     "<tool_call>"},
    {ToolFormat::kQwenCoder, "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
     "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
     "<tool_call>"},
    {ToolFormat::kLlama3, R"({"name": "weather", "parameters": {"city": "Oslo"}})", nullptr, R"({"name": "weather")"},
    {ToolFormat::kMistral, R"([TOOL_CALLS][{"name": "weather", "arguments": {"city": "Oslo"}}])",
     R"([TOOL_CALLS][{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "now", "arguments": {}}])", "[TOOL_CALLS]"},
    {ToolFormat::kMistralNamed, R"([TOOL_CALLS]weather[ARGS]{"city": "Oslo"})",
     R"([TOOL_CALLS]weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]now[ARGS]{})", "[TOOL_CALLS]"},
    {ToolFormat::kGranite, R"(<|tool_call|>[{"name": "weather", "arguments": {"city": "Oslo"}}])",
     R"(<|tool_call|>[{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "now", "arguments": {}}])", "<|tool_call|>"},
    {ToolFormat::kFunctionGemma, "<start_function_call>call:weather{city:<escape>Oslo<escape>}<end_function_call>",
     "<start_function_call>call:weather{city:<escape>Oslo<escape>}<end_function_call><start_function_call>call:now{}<end_function_call>",
     "<start_function_call>"},
    {ToolFormat::kGemma4, "<|tool_call>call:weather{city:<|\"|>Oslo<|\"|>,n:1}<tool_call|>",
     "<|tool_call>call:weather{city:<|\"|>Oslo<|\"|>}<tool_call|><|tool_call>call:now{}<tool_call|>", "<|tool_call>"},
    {ToolFormat::kGeneric, R"({"tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}]})",
     R"({"tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "now", "arguments": {}}]})", R"({"tool_calls")"},
};
// clang-format on

std::string grammar(const ToolUse& tools, ToolFormat format) {
  const auto spec = tool_grammar(tools, ChatStyle{.tools = format}, false);
  EXPECT_TRUE(spec) << spec.error().message;
  return spec ? spec->text : "";
}

TEST(ToolGrammarTest, AcceptsTheFormatsCallsAndTheParserTakesThemApart) {
  for (const Case& c : kCases) {
    const ToolUse tools = use(ToolChoice::kRequired);
    const std::string text = grammar(tools, c.format);
    EXPECT_TRUE(accepts(text, c.one)) << to_string(c.format) << "\n" << text;
    EXPECT_FALSE(accepts(text, "Hello")) << to_string(c.format);
    EXPECT_FALSE(accepts(text, std::string(c.one) + " and")) << to_string(c.format);
    if (c.two != nullptr) {
      EXPECT_TRUE(accepts(text, c.two)) << to_string(c.format);
      EXPECT_FALSE(accepts(grammar(use(ToolChoice::kRequired, false), c.format), c.two)) << to_string(c.format);
      EXPECT_FALSE(accepts(grammar(use(ToolChoice::kNamed), c.format), c.two)) << to_string(c.format);
    }
    EXPECT_TRUE(accepts(grammar(use(ToolChoice::kNamed), c.format), c.one)) << to_string(c.format);
    AnswerParser parser(ChatStyle{.tools = c.format}, tools, false);
    AnswerDelta delta = parser.add(c.two != nullptr ? c.two : c.one);
    delta.add(parser.flush());
    EXPECT_EQ(delta.content, "") << to_string(c.format);
    EXPECT_EQ(delta.calls.back().index, c.two != nullptr ? 1U : 0U) << to_string(c.format);
  }
}

TEST(ToolGrammarTest, LeftToTheModelItBeginsWhereACallBegins) {
  for (const Case& c : kCases) {
    const auto spec = tool_grammar(use(ToolChoice::kAuto), ChatStyle{.tools = c.format}, false);
    ASSERT_TRUE(spec) << spec.error().message;
    EXPECT_THAT(spec->triggers, testing::Contains(c.trigger)) << to_string(c.format);
    EXPECT_TRUE(std::string_view(c.one).starts_with(c.trigger));
    EXPECT_TRUE(accepts(spec->text, c.one));
  }
}

TEST(ToolGrammarTest, RequiredCallsComeBehindThoughts) {
  const ChatStyle style{.tools = ToolFormat::kHermes, .thoughts_open = "<think>", .thoughts_close = "</think>"};
  const auto spec = tool_grammar(use(ToolChoice::kRequired), style, true);
  ASSERT_TRUE(spec);
  EXPECT_THAT(spec->triggers, testing::ElementsAre("</think>"));
  EXPECT_TRUE(accepts(spec->text, "</think>\n\n" + std::string(kCases[0].one)));
}

TEST(ToolGrammarTest, ArgumentsAreThoseOfTheSchema) {
  const std::string text = grammar(use(ToolChoice::kRequired), ToolFormat::kGeneric);
  const auto call = [](const std::string& arguments) {
    return R"({"tool_calls": [{"name": "weather", "arguments": )" + arguments + "}]}";
  };
  EXPECT_TRUE(accepts(text, call(R"({"city": "a", "n": 3})")));
  EXPECT_FALSE(accepts(text, call(R"({"city": 3})")));
  EXPECT_FALSE(accepts(text, call("{}")));
  EXPECT_FALSE(accepts(text, call(R"({"city": "a", "other": 1})")));
}

TEST(ToolGrammarTest, ASchemaThatCannotBeEnforcedIsRefusedWhereTheToolIsStrict) {
  ToolUse odd = use(ToolChoice::kRequired);
  odd.tools[0].parameters = R"({"type": "object", "properties": {"a": {"not": {}}}})";
  EXPECT_TRUE(
      accepts(grammar(odd, ToolFormat::kGeneric), R"({"tool_calls": [{"name": "weather", "arguments": {"x": [1]}}]})"));
  odd.tools[0].strict = true;
  const auto refused = tool_grammar(odd, ChatStyle{}, false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.error().message, testing::AllOf(HasSubstr("'weather'"), HasSubstr("not")));
}

TEST(ToolGrammarTest, AnAnswerEndsWhereTheModelWaitsForResults) {
  const ChatStyle gemma{.tools = ToolFormat::kFunctionGemma};
  EXPECT_THAT(stops_behind_calls(use(ToolChoice::kAuto), gemma), testing::ElementsAre("<start_function_response>"));
  EXPECT_TRUE(stops_behind_calls(use(ToolChoice::kNone), gemma).empty());
  EXPECT_TRUE(stops_behind_calls(use(ToolChoice::kAuto), ChatStyle{.tools = ToolFormat::kHermes}).empty());
}

TEST(ToolGrammarTest, CallsOrAnAnswerOfAFormat) {
  GrammarBuilder builder;
  const GrammarSpec format{.text = *builder.text(*builder.add_rule("answer", R"("yes" | "no")")), .triggers = {}};
  const auto calls = tool_grammar(use(ToolChoice::kAuto), ChatStyle{.tools = ToolFormat::kHermes}, false);
  const GrammarSpec both = either(*calls, format);
  EXPECT_TRUE(both.triggers.empty());
  EXPECT_TRUE(accepts(both.text, "yes"));
  EXPECT_TRUE(accepts(both.text, kCases[0].one));
  EXPECT_FALSE(accepts(both.text, "maybe"));
}

}  // namespace
}  // namespace celslm
