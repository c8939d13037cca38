#include "model/text/chat_template.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/text/template_source.h"

namespace celslm {
namespace {

using testing::HasSubstr;

constexpr const char* kTurns = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";

const std::vector<ChatMessage> kUser = {{"user", "hi"}};
const std::vector<ChatMessage> kBoth = {{"system", "be brief"}, {"user", "hi"}};

std::string repeated(std::string_view text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

std::string rendered(std::string_view source, std::span<const ChatMessage> messages, bool answer = true) {
  const auto chat_template = ChatTemplate::create(source, "<s>", "</s>");
  if (!chat_template) return "refused: " + chat_template.error().message;
  const auto out = (*chat_template)->render(messages, answer);
  return out ? *out : "failed: " + out.error().message;
}

TEST(ChatTemplateTest, RendersAsJinjaDoes) {
  struct Case {
    const char* source;
    const char* text;
  };
  const Case cases[] = {
      {"{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m.content | trim }}{{ eos_token }}{% endfor %}",
       "<s>system: be brief</s>user: hi</s>"},
      {"{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}", "be briefhi>"},
      {"{%- for m in messages -%}\n  {{- m.content -}}\n{%- endfor -%}", "be briefhi"},
      {"{% for m in messages %}\n  {% if not loop.first %}\n,{% endif %}\n{{ m.content }}\n{% endfor %}\n",
       "be brief\n,hi\n"},
      {"{% macro show(m) %}<{{ m.content }}>{% endmacro %}{% for m in messages %}{{ show(m) }}{% endfor %}",
       "<be brief><hi>"},
      {"{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}{{ m.content }}{% endfor %}{{ "
       "ns.n }}",
       "hibe brief2"},
      {"{% for m in messages %}{{ m.content }}{{ loop.index0 % 2 }}{{ loop.index // 2 }}{% endfor %}", "be brief00hi11"},
      {"{{ messages[0].content ~ '}}' ~ \"'%}\" }}{# {{ #}{{ {'a': {'b': messages[1].content}}['a']['b'] }}",
       "be brief}}'%}hi"},
      {"{% if enable_thinking is defined and enable_thinking is false %}no{% endif %}{{ messages[0].content }}"
       "{{ messages[1].content }}{{ tools is defined }}",
       "be briefhiFalse"},
  };
  for (const Case& c : cases) EXPECT_EQ(rendered(c.source, kBoth), c.text) << c.source;
}

TEST(ChatTemplateTest, TheDateIsAlwaysTheSame) {
  EXPECT_EQ(rendered("{{ date_string }}|{{ datetime }}|{{ strftime_now('%A %Y-%m-%d') }}|{{ messages[0].content }}", kUser),
            "26 Jul 2024|Jul 26 2024|Friday 2024-07-26|hi");
}

TEST(ChatTemplateTest, WhatATemplateDoesNotKnowIsFittedToIt) {
  const std::string no_system =
      "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}" + std::string(kTurns);
  EXPECT_EQ(rendered(no_system, kBoth), "[user]be brief\nhi");
  const char* ignores_system = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}";
  EXPECT_EQ(rendered(ignores_system, kBoth), "be brief\nhi");
  EXPECT_EQ(rendered("{% for m in messages %}{{ m.content[0]['text'] }};{% endfor %}", kBoth), "be brief;hi;");
  EXPECT_EQ(rendered(kTurns, std::vector<ChatMessage>{{"developer", "x"}, {"user", "y"}}), "[system]x[user]y");
}

TEST(ChatTemplateTest, ATemplatesOwnRefusalIsTheReason) {
  const std::string source =
      "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
      "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{{ m.content }}{% endfor %}";
  EXPECT_EQ(rendered(source, kUser), "hi");
  EXPECT_THAT(rendered(source, std::vector<ChatMessage>{{"user", "a"}, {"user", "b"}}),
              HasSubstr("failed: the model's chat template does not render this conversation: Conversation roles must"));
}

TEST(ChatTemplateTest, WhatCannotBeRenderedIsRefusedAtOnce) {
  const std::pair<std::string, const char*> cases[] = {
      {"{% for m in messages %}{{ m.content }}", "does not parse"},
      {"{{ messages[0].content | no_such_filter }}", ""},
      {"{{ 'fixed text' }}", "does not write a user's message"},
      {"{{ messages[0].content", "without its end"},
      {"{{ 'messages }}", "a string without its end"},
      {"{{ messages[0].content) }}", "a ')' too many"},
      {"{{ messages[0].content[::2] }}", "slices with a step"},
      {"{{ 1 % 0 }}{{ messages[0].content }}", "by whole numbers"},
      {"{{ 1 // messages|length }}{{ messages[0].content }}", "by whole numbers"},
      {"{{ 1 % 1e-9 }}{{ messages[0].content }}", "by whole numbers"},
      {"{% for m in messages recursive %}{{ loop(m) }}{% endfor %}", "'recursive'"},
      {"{% for m in messages %}{% macro f() %}{% endmacro %}{{ m.content }}{% endfor %}", "'macro' inside a loop"},
      {std::string("{{ messages[0].content }}\0", 26), "NUL"},
      {std::string(kTurns) + std::string(kMaxTemplateBytes, ' '), "bytes; at most"},
      {kTurns + std::string(5000, 'a'), "a word or a blank"},
      {kTurns + std::string("{#") + repeated("a ", 5000) + "#}", "a comment of more"},
      {"{{ " + repeated("(", 100) + "messages[0].content" + repeated(")", 100) + " }}", "brackets"},
      {"{{ " + repeated("not ", 1000) + "messages }}", "bytes of code"},
      {repeated("{% if true %}", 100) + kTurns + repeated("{% endif %}", 100), "blocks inside one another"},
  };
  for (const auto& [source, reason] : cases)
    EXPECT_THAT(rendered(source, kUser), testing::AllOf(testing::StartsWith("refused: "), HasSubstr(reason)))
        << source.substr(0, 100);
}

// What is within the limits must not exhaust a stack of the usual size, in whatever build.
TEST(ChatTemplateTest, TheDeepestThatIsAcceptedRenders) {
  const std::string sources[] = {
      "{{ " + repeated("(", 60) + "messages[0].content" + repeated(")", 60) + " }}",
      "{{ messages[0].content" + repeated("~''", 600) + " }}",
      "{{ messages[0].content" + repeated("|trim", 380) + " }}",
      "{{ " + repeated("not ", 500) + "false or messages[0].content }}{{ messages[0].content }}",
      "{{ " + repeated("'' if false else ", 130) + "messages[0].content }}",
      repeated("{% if true %}", 60) + kTurns + repeated("{% endif %}", 60),
      kTurns + std::string("{#") + repeated("a ", 4000) + "#}",
      kTurns + repeated(std::string(4000, 'a') + std::string(4000, ' '), 2),
  };
  for (const std::string& source : sources) EXPECT_THAT(rendered(source, kUser), HasSubstr("hi")) << source.substr(0, 100);
}

TEST(ChatTemplateTest, WorkIsBounded) {
  const std::string guard = "{{ messages[0].content }}{% if messages|length > 2 %}";
  const std::string digits = "['0','1','2','3','4','5','6','7','8','9']";
  const std::pair<std::string, const char*> cases[] = {
      {guard + "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}{% endif %}", "too deeply"},
      {guard + "{% for i in range(1000000000) %}{% endfor %}{% endif %}", "range()"},
      {guard + "{% for i in range(60000) %}{% for j in range(60000) %}{% endfor %}{% endfor %}{% endif %}",
       "too many steps"},
      {guard + repeated("{% for i in " + digits + " %}", 30) + repeated("{% endfor %}", 30) + "{% endif %}",
       "too many steps"},
      {guard + "{% for i in range(60000) %}" + repeated("0123456789 ", 100) + "{% endfor %}{% endif %}", "too much text"},
  };
  const std::vector<ChatMessage> three = {{"user", "a"}, {"assistant", "b"}, {"user", "c"}};
  for (const auto& [source, reason] : cases) {
    EXPECT_EQ(rendered(source, kUser), "hi") << source.substr(0, 100);
    EXPECT_THAT(rendered(source, three), HasSubstr(reason)) << source.substr(0, 100);
  }
}

TEST(ChatTemplateTest, LongConversationsAreNotTooMuchWork) {
  std::vector<ChatMessage> messages(4096, {"user", std::string(1000, 'x')});
  EXPECT_EQ(
      rendered("{% for m in messages %}{% for i in range(3) %}{{ m.content }}{% endfor %}{% endfor %}", messages).size(),
      4096U * 3 * 1000);
}

constexpr const char* kTools =
    R"([{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{}}}}])";

std::string rendered_with_tools(std::string_view source, std::span<const ChatMessage> messages, const char* tools = kTools) {
  const auto chat_template = ChatTemplate::create(source, "<s>", "</s>");
  if (!chat_template) return "refused: " + chat_template.error().message;
  const auto out = (*chat_template)->render(messages, true, {.tools = tools});
  return out ? *out : "failed: " + out.error().message;
}

// A template that knows tools as Hermes' and Qwen's do.
constexpr const char* kToolTemplate =
    "{% if tools %}<{% for t in tools %}{{ t | tojson }}{% endfor %}>{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}"
    "(call {{ c.function.name }} {{ c.function.arguments | tojson }}){% endfor %}{% endif %}{% endfor %}";

std::vector<ChatMessage> with_calls(int n) {
  std::vector<ChatMessage> out = {{"user", "hi"}, {.role = "assistant", .content = "", .tool_calls = {}}};
  for (int i = 0; i < n; ++i)
    out[1].tool_calls.push_back(
        {.id = fmt::format("c{}", i), .name = fmt::format("f{}", i), .arguments = R"({"z": 1, "a": "b"})"});
  for (int i = n; i > 0; --i)
    out.push_back({.role = "tool", .content = fmt::format("r{}", i - 1), .tool_call_id = fmt::format("c{}", i - 1)});
  return out;
}

TEST(ChatTemplateTest, ToolsTheirCallsAndResultsAreRendered) {
  EXPECT_THAT(rendered_with_tools(kToolTemplate, kUser),
              testing::StartsWith(R"(<{"type": "function", "function": {"name": "f")"));
  EXPECT_EQ(rendered_with_tools(kToolTemplate, with_calls(2), ""),
            R"([user]hi[assistant](call f0 {"z": 1, "a": "b"})(call f1 {"z": 1, "a": "b"})[tool]r1[tool]r0)");
  EXPECT_EQ(rendered(kToolTemplate, kUser), "[user]hi");
}

TEST(ChatTemplateTest, ArgumentsAreTextWhereTheTemplateWantsIt) {
  const char* source =
      "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}"
      "({{ c.function.name + c.function.arguments }}){% endfor %}{% endfor %}";
  EXPECT_EQ(rendered_with_tools(source, with_calls(1), ""), R"([user]hi[assistant](f0{"z":1,"a":"b"})[tool]r0)");
}

// As Qwen 3 and Gemma 4 do.
TEST(ChatTemplateTest, ArgumentsAreAnObjectWhereTheTemplateTakesBoth) {
  const char* source =
      "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}"
      "{% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}"
      "{% for key, value in c.function.arguments | dictsort %}<{{ key }}={{ value }}>{% endfor %}{% endif %}{% endfor %}{% "
      "endfor %}";
  EXPECT_EQ(rendered_with_tools(source, with_calls(1), ""), "hif0<a=b><z=1>r0");
}

TEST(ChatTemplateTest, SeveralCallsAreOneAfterAnotherWhereTheTemplateTakesOne) {
  const char* source =
      "{% for m in messages %}[{{ m.role }}]{% if m.tool_calls %}{% if m.tool_calls|length != 1 %}{{ raise_exception('one') "
      "}}"
      "{% endif %}({{ m.tool_calls[0].function.name }} {{ m.tool_calls[0].function.arguments | tojson }})"
      "{% else %}{{ m.content }}{% endif %}{% endfor %}";
  EXPECT_EQ(rendered_with_tools(source, with_calls(2), ""),
            R"([user]hi[assistant](f0 {"z": 1, "a": "b"})[tool]r0[assistant](f1 {"z": 1, "a": "b"})[tool]r1)");
}

TEST(ChatTemplateTest, IdsAreShortWhereTheTemplateWantsThem) {
  const char* source =
      "{% for m in messages %}{% if m.role == 'tool' %}{% if m.tool_call_id|length != 9 %}{{ raise_exception('id') }}{% "
      "endif %}"
      "={{ m.content }}{% else %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{{ c.id }}"
      "{% endfor %}{% endif %}{% endfor %}";
  std::vector<ChatMessage> chat = with_calls(1);
  chat[1].tool_calls[0].id = chat[2].tool_call_id = "call_0123456789";
  EXPECT_THAT(rendered_with_tools(source, chat, ""), testing::MatchesRegex(R"(hi\{.*\}[0-9a-z]{9}=r0)"));
  chat[1].tool_calls[0].id = chat[2].tool_call_id = "AbCdEf123";
  EXPECT_THAT(rendered_with_tools(source, chat, ""), HasSubstr("AbCdEf123=r0"));
}

TEST(ChatTemplateTest, ATemplateWithoutToolsHasThemInItsText) {
  const std::string with_definitions = rendered_with_tools(kTurns, kBoth);
  EXPECT_THAT(with_definitions, testing::StartsWith("[system]be brief\n\nYou can call tools."));
  EXPECT_THAT(with_definitions, HasSubstr(R"({"name":"f","description":"d")"));
  EXPECT_THAT(with_definitions, testing::EndsWith("[user]hi"));
  EXPECT_THAT(rendered_with_tools(kTurns, kUser), testing::StartsWith("[system]You can call tools."));
  EXPECT_THAT(
      rendered_with_tools(kTurns, with_calls(1), ""),
      HasSubstr(
          R"([assistant]{"tool_calls":[{"name":"f0","arguments":{"z":1,"a":"b"}}]}[user]{"tool_result":{"tool":"f0")"));
}

TEST(ChatTemplateTest, StyleIsReadFromTheSource) {
  const auto style = [](const std::string& more) {
    return (*ChatTemplate::create(kToolTemplate + more, "<s>", "</s>"))->style();
  };
  const std::pair<const char*, ToolFormat> cases[] = {
      {"{# <tool_call> #}", ToolFormat::kHermes},
      {"{# <tool_call> <function=x> #}", ToolFormat::kQwenCoder},
      {"{# <|start_header_id|> <|python_tag|> #}", ToolFormat::kLlama3},
      {"{# [TOOL_CALLS] #}", ToolFormat::kMistral},
      {"{# [TOOL_CALLS] [ARGS] #}", ToolFormat::kMistralNamed},
      {"{# <|tool_call|> #}", ToolFormat::kGranite},
      {"{# <start_function_call> #}", ToolFormat::kFunctionGemma},
      {"{# <|tool_call> #}", ToolFormat::kGemma4},
      {"", ToolFormat::kGeneric},
  };
  for (const auto& [more, format] : cases) EXPECT_EQ(style(more).tools, format) << more;
  EXPECT_EQ(style("").thoughts_open, "");
  EXPECT_EQ(style("{# </think> #}").thoughts_open, "<think>");
  EXPECT_FALSE(style("{# </think> #}").begins_in_thoughts);
  EXPECT_TRUE(style("{% if add_generation_prompt %}<think>\n{% endif %}{# </think> #}").begins_in_thoughts);
  EXPECT_EQ((*ChatTemplate::create(kTurns + std::string("{# <tool_call> #}"), "", ""))->style().tools, ToolFormat::kGeneric);
}

TEST(ChatTemplateTest, ThinkingCanBeTurnedOff) {
  const char* source =
      "{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %}no{% endif %}";
  EXPECT_EQ((*(*ChatTemplate::create(source, "", ""))->render(kUser, true, {.thinking = false})), "hino");
}

}  // namespace
}  // namespace celslm
