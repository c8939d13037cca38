#include "serve/openai/tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace celslm {
namespace {

using nlohmann::json;
using ordered = nlohmann::ordered_json;

bool is_tool_name(std::string_view name) {
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kMaxToolName && std::ranges::all_of(name, plain);
}

constexpr const char* kToolName = "1 to 64 letters, digits, '_' or '-'";

std::string dumped(const ordered& value) {
  return value.dump(-1, ' ', false, ordered::error_handler_t::replace);
}

// The part of a tool that describes its function: beside its type, or in "function".
Result<JsonFields> function_of(const JsonFields& tool, bool flat) {
  CELSLM_TRY(const auto type, tool.text("type", 64));
  if (type != "function")
    return tool.expected("type", fmt::format("'function', the only kind of tool here (not '{}')", type.value_or("")));
  if (flat) return tool;
  return tool.required_object("function");
}

Result<Tool> read_tool(const JsonFields& function, const ordered& in_order) {
  Tool out;
  CELSLM_TRY(out.name, function.required_text("name"));
  if (!is_tool_name(out.name)) return function.expected("name", kToolName);
  CELSLM_CHECK_OK(function.text("description").transform([](const auto&) {}));
  CELSLM_TRY(const auto parameters, function.object("parameters"));
  if (parameters) out.parameters = dumped(in_order["parameters"]);
  CELSLM_TRY(const auto strict, function.flag("strict"));
  out.strict = strict.value_or(false);
  return out;
}

// As templates read it; they use fields without asking whether they are there.
ordered definition_of(const ordered& function) {
  ordered out = {{"name", function["name"]}};
  const auto description = function.find("description");
  out["description"] = description != function.end() && description->is_string() ? *description : ordered("");
  const auto parameters = function.find("parameters");
  out["parameters"] = parameters != function.end() && parameters->is_object()
                          ? *parameters
                          : ordered{{"type", "object"}, {"properties", ordered::object()}};
  return {{"type", "function"}, {"function", std::move(out)}};
}

Status read_tools(const JsonFields& fields, std::string_view body, bool flat, ToolUse& out) {
  CELSLM_TRY(const json* list, fields.list("tools", kMaxTools));
  if (list == nullptr || list->empty()) return {};
  const ordered in_order = ordered::parse(body, nullptr, false)["tools"];
  ordered definitions = ordered::array();
  for (std::size_t i = 0; i < list->size(); ++i) {
    CELSLM_TRY(const JsonFields item, JsonFields::of((*list)[i], fmt::format("{}[{}]", fields.path("tools"), i)));
    CELSLM_TRY(const JsonFields function, function_of(item, flat));
    const ordered& source = flat ? in_order[i] : in_order[i]["function"];
    CELSLM_TRY(Tool tool, read_tool(function, source));
    if (std::ranges::contains(out.tools, tool.name, &Tool::name))
      return function.expected("name", fmt::format("another than '{}', which an earlier tool has", tool.name));
    out.tools.push_back(std::move(tool));
    definitions.push_back(definition_of(source));
  }
  out.definitions = dumped(definitions);
  if (out.definitions.size() > kMaxToolBytes)
    return fields.expected("tools", fmt::format("at most {} bytes in all", kMaxToolBytes));
  return {};
}

constexpr const char* kChoices = "'none', 'auto', 'required' or an object that names one of the tools";

Status read_named_choice(const JsonFields& fields, const JsonFields& choice, bool flat, ToolUse& out) {
  CELSLM_TRY(const auto type, choice.text("type", 64));
  if (type != "function")
    return choice.expected("type", fmt::format("'function', the only kind of choice here (not '{}')", type.value_or("")));
  CELSLM_TRY(const JsonFields function, flat ? Result<JsonFields>(choice) : choice.required_object("function"));
  CELSLM_TRY(out.named, function.required_text("name", kMaxToolName));
  if (!std::ranges::contains(out.tools, out.named, &Tool::name))
    return fields.expected("tool_choice", fmt::format("one of the tools: there is none named '{}'", out.named));
  out.choice = ToolChoice::kNamed;
  return {};
}

Status read_choice(const JsonFields& fields, bool flat, ToolUse& out) {
  out.choice = out.tools.empty() ? ToolChoice::kNone : ToolChoice::kAuto;
  const json* choice = fields.find("tool_choice");
  if (choice == nullptr) return {};
  if (choice->is_object()) {
    CELSLM_TRY(const JsonFields object, JsonFields::of(*choice, fields.path("tool_choice")));
    return read_named_choice(fields, object, flat, out);
  }
  if (*choice == "none") {
    out.choice = ToolChoice::kNone;
  } else if (*choice == "required") {
    if (out.tools.empty()) return fields.expected("tools", "given when 'tool_choice' is 'required'");
    out.choice = ToolChoice::kRequired;
  } else if (*choice != "auto") {
    return fields.expected("tool_choice", kChoices);
  }
  return {};
}

Result<ToolUse> read_use(const JsonFields& fields, std::string_view body, bool flat) {
  for (const char* old : {"functions", "function_call"}) {
    if (fields.find(old) != nullptr) return fields.expected(old, "absent: give 'tools' and 'tool_choice' instead");
  }
  ToolUse out;
  CELSLM_CHECK_OK(read_tools(fields, body, flat, out));
  CELSLM_CHECK_OK(read_choice(fields, flat, out));
  CELSLM_TRY(const auto parallel, fields.flag("parallel_tool_calls"));
  out.parallel = parallel.value_or(true);
  return out;
}

}  // namespace

Result<ToolUse> tools_of(const JsonFields& fields, std::string_view body) {
  return read_use(fields, body, false);
}

Result<ToolUse> flat_tools_of(const JsonFields& fields, std::string_view body) {
  return read_use(fields, body, true);
}

Result<ToolCall> call_of(const JsonFields& item) {
  ToolCall out;
  CELSLM_TRY(out.id, item.required_text("call_id", kMaxCallIdBytes));
  CELSLM_TRY(out.name, item.required_text("name"));
  if (!is_tool_name(out.name)) return item.expected("name", kToolName);
  CELSLM_TRY(out.arguments, item.required_text("arguments"));
  return out;
}

Result<std::vector<ToolCall>> calls_of(const JsonFields& message) {
  CELSLM_TRY(const json* list, message.list("tool_calls", kMaxCallsInMessage));
  std::vector<ToolCall> out;
  if (list == nullptr) return out;
  for (const json& item : *list) {
    CELSLM_TRY(const JsonFields call, JsonFields::of(item, fmt::format("{}[{}]", message.path("tool_calls"), out.size())));
    CELSLM_TRY(const JsonFields function, function_of(call, false));
    CELSLM_TRY(std::string id, call.required_text("id", kMaxCallIdBytes));
    CELSLM_TRY(std::string name, function.required_text("name"));
    if (!is_tool_name(name)) return function.expected("name", kToolName);
    CELSLM_TRY(std::string arguments, function.required_text("arguments"));
    out.push_back({.id = std::move(id), .name = std::move(name), .arguments = std::move(arguments)});
  }
  return out;
}

}  // namespace celslm
