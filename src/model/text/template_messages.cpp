#include "model/text/template_messages.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"

namespace celslm {
namespace {

using json = nlohmann::ordered_json;

constexpr const char* kToolPrompt =
    "You can call tools. To call one or several, answer with JSON of this form and nothing else:\n"
    R"({"tool_calls": [{"name": "<name of the tool>", "arguments": {<its arguments>}}]})"
    "\nAfter that you are given the results. The tools, in JSON:\n";

std::string nine_letters(const std::string& id) {
  const auto plain = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (id.size() == 9 && std::ranges::all_of(id, plain)) return id;
  std::uint64_t hash = 0xCBF29CE484222325ULL;  // FNV-1a
  for (const char c : id) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  std::string out;
  for (int i = 0; i < 9; ++i, hash /= 36) out += "0123456789abcdefghijklmnopqrstuvwxyz"[hash % 36];
  return out;
}

std::string name_of_call(std::span<const ChatMessage> messages, const std::string& id) {
  for (const ChatMessage& m : messages) {
    for (const ToolCall& call : m.tool_calls) {
      if (call.id == id) return call.name;
    }
  }
  return {};
}

// Each call in a message of its own, followed by its results.
std::vector<ChatMessage> one_after_another(std::span<const ChatMessage> messages) {
  std::vector<ChatMessage> out;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].tool_calls.size() < 2) {
      out.push_back(messages[i]);
      continue;
    }
    std::size_t end = i + 1;
    while (end < messages.size() && messages[end].role == "tool") ++end;
    std::vector<ChatMessage> results(messages.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                                     messages.begin() + static_cast<std::ptrdiff_t>(end));
    ChatMessage calling = messages[i];
    for (const ToolCall& call : messages[i].tool_calls) {
      calling.tool_calls = {call};
      out.push_back(calling);
      calling.content.clear();
      calling.reasoning.clear();
      const auto others = std::ranges::stable_partition(results, [&](const auto& r) { return r.tool_call_id == call.id; });
      std::move(results.begin(), others.begin(), std::back_inserter(out));
      results.erase(results.begin(), others.begin());
    }
    std::ranges::move(results, std::back_inserter(out));
    i = end - 1;
  }
  return out;
}

class Writer {
 public:
  Writer(const TemplateAbilities& abilities, std::span<const ChatMessage> messages) : can_(abilities), all_(messages) {}

  // before: what comes before the first content.
  json messages(std::string before) {
    for (const ChatMessage& m : all_) add(m, std::exchange(before, {}));
    return std::move(out_);
  }

 private:
  json content(std::string text) const {
    if (!can_.typed_contents) return text;
    return json::array({json{{"type", "text"}, {"text", std::move(text)}}});
  }

  void add(const ChatMessage& m, const std::string& before) {
    if (m.role == "tool" && can_.results_in_call && add_to_call(m)) return;
    if (m.role == "tool" && !can_.tool_results) return add_as_user(m);
    json message = {{"role", m.role == "developer" ? "system" : m.role}};
    std::string text = before + m.content;
    if (!m.tool_calls.empty() && !can_.tool_calls) text += (text.empty() ? "" : "\n") + as_text(m.tool_calls);
    message["content"] = content(std::move(text));
    if (!m.reasoning.empty()) message["reasoning_content"] = m.reasoning;
    if (can_.tool_calls) {
      for (const ToolCall& call : m.tool_calls) message["tool_calls"].push_back(as_json(call));
    }
    if (m.role == "tool") {
      message["tool_call_id"] = id_of(m.tool_call_id);
      if (const std::string name = name_of_call(all_, m.tool_call_id); !name.empty()) message["name"] = name;
    }
    out_.push_back(std::move(message));
  }

  std::string id_of(const std::string& id) const { return can_.short_ids ? nine_letters(id) : id; }

  json as_json(const ToolCall& call) const {
    json arguments = arguments_of(call);
    if (can_.text_arguments && !arguments.is_string())
      arguments = arguments.dump(-1, ' ', false, json::error_handler_t::replace);
    return {{"id", id_of(call.id)},
            {"type", "function"},
            {"function", {{"name", call.name}, {"arguments", std::move(arguments)}}}};
  }

  static std::string as_text(const std::vector<ToolCall>& calls) {
    json list = json::array();
    for (const ToolCall& call : calls) list.push_back({{"name", call.name}, {"arguments", arguments_of(call)}});
    return json{{"tool_calls", std::move(list)}}.dump(-1, ' ', false, json::error_handler_t::replace);
  }

  bool add_to_call(const ChatMessage& m) {
    if (out_.empty() || !out_.back().contains("tool_calls")) return false;
    out_.back()["tool_responses"].push_back({{"name", name_of_call(all_, m.tool_call_id)}, {"response", m.content}});
    return true;
  }

  // Results that follow one another are one message: many templates want users and assistants to alternate.
  void add_as_user(const ChatMessage& m) {
    json result = {{"tool", name_of_call(all_, m.tool_call_id)}, {"content", m.content}};
    std::string text = json{{"tool_result", std::move(result)}}.dump(-1, ' ', false, json::error_handler_t::replace);
    if (!out_.empty() && n_results_ == out_.size()) {
      results_ += "\n" + text;
      out_.back()["content"] = content(results_);
      return;
    }
    results_ = text;
    out_.push_back({{"role", "user"}, {"content", content(std::move(text))}});
    n_results_ = out_.size();
  }

  const TemplateAbilities& can_;
  const std::span<const ChatMessage> all_;
  json out_ = json::array();
  std::string results_;        // the last message, where it consists of results
  std::size_t n_results_ = 0;  // messages when that was written
};

// With the tools as text in the system message.
std::vector<ChatMessage> with_tool_prompt(std::span<const ChatMessage> messages, const json& tools) {
  std::string prompt = kToolPrompt;
  for (const json& tool : tools) {
    const auto function = tool.find("function");
    prompt += (function == tool.end() ? tool : *function).dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  }
  std::vector<ChatMessage> out(messages.begin(), messages.end());
  if (out.empty() || (out.front().role != "system" && out.front().role != "developer"))
    out.insert(out.begin(), {.role = "system", .content = {}});
  out.front().content += (out.front().content.empty() ? "" : "\n\n") + prompt;
  return out;
}

}  // namespace

json arguments_of(const ToolCall& call) {
  if (call.arguments.empty()) return json::object();
  if (!parse_object(call.arguments)) return call.arguments;
  return json::parse(call.arguments, nullptr, false);
}

TemplateInput template_input(const TemplateAbilities& abilities, std::span<const ChatMessage> messages, const json& tools) {
  TemplateInput out;
  std::vector<ChatMessage> changed;
  if (!tools.is_null() && abilities.tools) out.tools = tools;
  if (!tools.is_null() && !abilities.tools) {
    changed = with_tool_prompt(messages, tools);
    messages = changed;
  }
  if (abilities.tool_calls && !abilities.parallel_calls) {
    changed = one_after_another(messages);
    messages = changed;
  }
  std::string before;
  if (!abilities.system_role && !messages.empty() && messages.front().role == "system") {
    if (messages.size() > 1) before = messages.front().content + "\n";
    messages = messages.subspan(1);
  }
  out.messages = Writer(abilities, messages).messages(std::move(before));
  return out;
}

}  // namespace celslm
