#include "serve/openai/tool_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/json.h"
#include "model/grammar/json_schema.h"

namespace celslm {
namespace {

using json = nlohmann::ordered_json;

constexpr long kMaxCalls = 16;  // of a constrained answer: a small model would repeat itself until its context is full

// What a format puts around calls: before the first, between two, after the last, and around each.
struct Layout {
  std::string before;
  std::string between;
  std::string after;
  std::string call_open;   // ends where the name begins
  std::string name_close;  // between name and arguments
  std::string call_close;
  bool several = true;
  std::vector<std::string> triggers;  // empty: where call_open with a name begins
};

Layout layout_of(ToolFormat format) {
  switch (format) {
    case ToolFormat::kHermes:
      return {.between = "\n",
              .call_open = "<tool_call>\n{\"name\": \"",
              .name_close = "\", \"arguments\": ",
              .call_close = "}\n</tool_call>",
              .triggers = {"<tool_call>"}};
    case ToolFormat::kQwenCoder:
      return {.between = "\n",
              .call_open = "<tool_call>\n<function=",
              .name_close = ">\n",
              .call_close = "</function>\n</tool_call>",
              .triggers = {"<tool_call>"}};
    case ToolFormat::kLlama3:
      return {.call_open = "{\"name\": \"",
              .name_close = "\", \"parameters\": ",
              .call_close = "}",
              .several = false,
              .triggers = {}};
    case ToolFormat::kMistral:
      return {.before = "[TOOL_CALLS][",
              .between = ", ",
              .after = "]",
              .call_open = "{\"name\": \"",
              .name_close = "\", \"arguments\": ",
              .call_close = "}",
              .triggers = {"[TOOL_CALLS]"}};
    case ToolFormat::kMistralNamed:
      return {.call_open = "[TOOL_CALLS]", .name_close = "[ARGS]", .triggers = {"[TOOL_CALLS]"}};
    case ToolFormat::kGranite:
      return {.before = "<|tool_call|>[",
              .between = ", ",
              .after = "]",
              .call_open = "{\"name\": \"",
              .name_close = "\", \"arguments\": ",
              .call_close = "}",
              .triggers = {"<|tool_call|>"}};
    case ToolFormat::kFunctionGemma:
      return {.call_open = "<start_function_call>call:",
              .call_close = "<end_function_call>",
              .triggers = {"<start_function_call>"}};
    case ToolFormat::kGemma4:
      return {.call_open = "<|tool_call>call:", .call_close = "<tool_call|>", .triggers = {"<|tool_call>"}};
    case ToolFormat::kGeneric: break;
  }
  return {.before = "{\"tool_calls\": [",
          .between = ", ",
          .after = "]}",
          .call_open = "{\"name\": \"",
          .name_close = "\", \"arguments\": ",
          .call_close = "}",
          .triggers = {"{\"tool_calls\""}};
}

// An empty literal would be a rule that matches nothing again and again.
std::string literal(const std::string& text) {
  return text.empty() ? "" : gbnf_literal(text) + " ";
}

bool is_gemma(ToolFormat format) {
  return format == ToolFormat::kFunctionGemma || format == ToolFormat::kGemma4;
}

class ToolGrammar {
 public:
  ToolGrammar(const ToolUse& use, const ChatStyle& style) : use_(use), style_(style), layout_(layout_of(style.tools)) {}

  Result<GrammarSpec> spec(bool begins_in_thoughts) {
    CELSLM_TRY(const std::string calls, calls_rule());
    GrammarSpec out;
    std::string root = calls;
    if (use_.choice == ToolChoice::kAuto) {
      out.triggers = layout_.triggers.empty() ? name_triggers() : layout_.triggers;
    } else if (begins_in_thoughts) {
      out.triggers = {style_.thoughts_close};
      CELSLM_TRY(root, builder_.add_rule("answer", literal(style_.thoughts_close) + "[ \\n]{0,4} " + calls));
    }
    CELSLM_TRY(out.text, builder_.text(root));
    return out;
  }

 private:
  std::vector<const Tool*> allowed() const {
    std::vector<const Tool*> out;
    for (const Tool& tool : use_.tools) {
      if (use_.choice != ToolChoice::kNamed || tool.name == use_.named) out.push_back(&tool);
    }
    return out;
  }

  std::vector<std::string> name_triggers() const {
    std::vector<std::string> out;
    for (const Tool* tool : allowed()) out.push_back(layout_.call_open + tool->name + "\"");
    return out;
  }

  Result<std::string> calls_rule() {
    std::string any;
    for (const Tool* tool : allowed()) {
      CELSLM_TRY(const std::string call, call_rule(*tool));
      any += (any.empty() ? "" : " | ") + call;
    }
    CELSLM_TRY(const std::string call, builder_.add_rule("tool-call", any));
    std::string several = call;
    if (layout_.several && use_.parallel && use_.choice != ToolChoice::kNamed) {
      CELSLM_TRY(const std::string next, builder_.add_rule("next-call", literal(layout_.between) + call));
      several += " " + gbnf_repeat(next, 0, kMaxCalls - 1);
    }
    return builder_.add_rule("tool-calls", literal(layout_.before) + several + " " + literal(layout_.after));
  }

  Result<std::string> call_rule(const Tool& tool) {
    CELSLM_TRY(const std::string arguments, arguments_rule(tool));
    return builder_.add_rule("call-" + tool.name, literal(layout_.call_open + tool.name + layout_.name_close) + arguments +
                                                      " " + literal(layout_.call_close));
  }

  Result<std::string> arguments_rule(const Tool& tool) {
    json schema = tool.parameters.empty() ? json() : json::parse(tool.parameters, nullptr, false);
    if (style_.tools == ToolFormat::kQwenCoder) return xml_arguments(tool, schema);
    if (is_gemma(style_.tools)) return gemma_arguments(tool);
    if (schema.is_null() || (schema.contains("properties") && schema["properties"].empty()))
      return builder_.add_rule("no-arguments", R"("{" json-ws "}")");
    if (!schema.contains("type")) schema["type"] = "object";
    return schema_rule("arguments-" + tool.name, schema, tool);
  }

  Result<std::string> schema_rule(const std::string& name, const json& schema, const Tool& tool) {
    auto rule = builder_.add_schema(name, schema);
    if (rule || tool.strict) return rule ? rule : wrap(rule.error(), fmt::format("tool '{}' is strict", tool.name));
    const bool object = schema.contains("type") && schema["type"] == "object";
    return std::string(object ? GrammarBuilder::kAnyObject : GrammarBuilder::kAnyValue);
  }

  // <parameter=x>\na\n</parameter>\n for each property in the schema's order; those that are not required may be missing.
  Result<std::string> xml_arguments(const Tool& tool, const json& schema) {
    std::string out;
    if (!schema.is_object() || !schema.contains("properties") || !schema["properties"].is_object()) return R"("")";
    const json required = schema.value("required", json::array());
    for (const auto& [name, property] : schema["properties"].items()) {
      std::string value = R"(( [^<] | "<" [^/] | "</" [^p] )*)";
      if (property.is_object() && property.contains("type") && property["type"] != "string") {
        CELSLM_TRY(value, schema_rule(fmt::format("parameter-{}-{}", tool.name, name), property, tool));
      }
      const std::string one = literal("<parameter=" + name + ">\n") + value + " " + literal("\n</parameter>\n");
      out += std::ranges::contains(required, json(name)) ? one : "( " + one + ")? ";
    }
    return out.empty() ? R"("")" : builder_.add_rule("arguments-" + tool.name, out);
  }

  // Like JSON, but for keys and strings. By the form only: a value's type is not that of the schema.
  Result<std::string> gemma_arguments(const Tool& tool) {
    if (tool.strict)
      return fail(ErrorKind::kInvalid, "tool '{}' is strict: with this model's format of calls schemas cannot be enforced",
                  tool.name);
    if (!gemma_.empty()) return gemma_;
    const bool escape = style_.tools == ToolFormat::kFunctionGemma;
    const std::string quote = gbnf_literal(escape ? "<escape>" : "<|\"|>");
    CELSLM_TRY(const std::string text, builder_.add_rule("gemma-string", fmt::format("{} ( [^<] )* {}", quote, quote)));
    // These refer to one another, so their names are fixed before they exist.
    CELSLM_CHECK_OK(
        builder_.add_rule("gemma-value", text + R"( | json-number | "true" | "false" | "null" | gemma-list | gemma-object)")
            .transform([](const auto&) {}));
    CELSLM_CHECK_OK(
        builder_.add_rule("gemma-list", R"("[" ( gemma-value ( "," gemma-value )* )? "]")").transform([](const auto&) {}));
    CELSLM_CHECK_OK(builder_.add_rule("gemma-member", R"([A-Za-z0-9_-]+ ":" gemma-value)").transform([](const auto&) {}));
    CELSLM_TRY(gemma_, builder_.add_rule("gemma-object", R"("{" ( gemma-member ( "," gemma-member )* )? "}")"));
    return gemma_;
  }

  const ToolUse& use_;
  const ChatStyle& style_;
  const Layout layout_;
  GrammarBuilder builder_;
  std::string gemma_;  // the rule of arguments, once there is one
};

// The right side of the first rule, and the lines of the others.
std::pair<std::string_view, std::string_view> split_root(std::string_view grammar) {
  constexpr std::string_view kRoot = "root ::= ";
  const std::size_t end = std::min(grammar.find('\n'), grammar.size() - 1);
  return {grammar.substr(kRoot.size(), end - kRoot.size()), grammar.substr(end + 1)};
}

}  // namespace

Result<GrammarSpec> tool_grammar(const ToolUse& use, const ChatStyle& style, bool begins_in_thoughts) {
  return ToolGrammar(use, style).spec(begins_in_thoughts);
}

std::vector<std::string> stops_behind_calls(const ToolUse& use, const ChatStyle& style) {
  if (!use.allowed()) return {};
  if (style.tools == ToolFormat::kFunctionGemma) return {"<start_function_response>"};
  if (style.tools == ToolFormat::kGemma4) return {"<|tool_response>"};
  return {};
}

GrammarSpec either(const GrammarSpec& calls, const GrammarSpec& format) {
  const auto [calls_root, calls_rules] = split_root(calls.text);
  const auto [format_root, format_rules] = split_root(format.text);
  GrammarSpec out{.text = fmt::format("root ::= {} | {}\n", calls_root, format_root), .triggers = {}};
  std::set<std::string_view> seen;  // both have the rules of JSON
  for (std::string_view rules : {calls_rules, format_rules}) {
    while (!rules.empty()) {
      const std::size_t end = std::min(rules.find('\n'), rules.size() - 1) + 1;
      if (seen.insert(rules.substr(0, end)).second) out.text += rules.substr(0, end);
      rules.remove_prefix(end);
    }
  }
  return out;
}

}  // namespace celslm
