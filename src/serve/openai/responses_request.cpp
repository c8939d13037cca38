#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "core/json.h"
#include "serve/openai/responses.h"

namespace celslm {
namespace {

using nlohmann::json;
using ordered = nlohmann::ordered_json;

constexpr std::size_t kMaxItems = 8192;

// What would change the answer, or relies on something that a server without memory does not have.
Status refuse_unsupported(const JsonFields& fields) {
  for (const char* name : {"previous_response_id", "conversation", "prompt", "max_tool_calls", "context_management"}) {
    if (fields.find(name) != nullptr)
      return fields.expected(name, "absent: this server keeps nothing between requests and runs no tools");
  }
  CELSLM_TRY(const auto background, fields.flag("background"));
  if (background.value_or(false)) return fields.expected("background", "false: responses are not kept");
  CELSLM_CHECK_OK(fields.flag("store").transform([](auto) {}));  // the answer reports false
  CELSLM_TRY(const auto truncation, fields.text("truncation", 64));
  if (truncation.value_or("disabled") != "disabled") return fields.expected("truncation", "'disabled'");
  CELSLM_TRY(const json* include, fields.list("include", 64));
  if (include != nullptr && !include->empty()) return fields.expected("include", "empty");
  CELSLM_TRY(const auto top, fields.integer("top_logprobs", 0, kMaxTopLogprobs));
  if (top.value_or(0) != 0) return fields.expected("top_logprobs", "0: /v1/chat/completions gives log probabilities");
  return {};
}

Result<std::string> text_of_part(const JsonFields& part) {
  constexpr std::array<std::string_view, 5> kTexts{"input_text", "output_text", "text", "reasoning_text", "summary_text"};
  CELSLM_TRY(const auto type, part.text("type", 64));
  if (!std::ranges::contains(kTexts, type.value_or("")))
    return part.expected("type", fmt::format("a kind of text, such as 'input_text' (not '{}')", type.value_or("")));
  return part.required_text("text");
}

// A text, or a list of parts.
Result<std::string> text_of(const JsonFields& item, std::string_view name) {
  const json* content = item.find(name);
  if (content != nullptr && content->is_string()) return content->get<std::string>();
  if (content == nullptr || !content->is_array()) return item.expected(name, "a string or an array of text parts");
  std::string out;
  for (std::size_t i = 0; i < content->size(); ++i) {
    CELSLM_TRY(const JsonFields part, JsonFields::of((*content)[i], fmt::format("{}[{}]", item.path(name), i)));
    CELSLM_TRY(const std::string text, text_of_part(part));
    if (i > 0) out += '\n';
    out += text;
  }
  return out;
}

// Puts the items of an input together to messages: thoughts, text and calls of one turn are separate items.
class InputReader {
 public:
  Status add(const JsonFields& item) {
    CELSLM_TRY(const auto type, item.text("type", 64));
    if (!type || *type == "message") return add_message(item);
    if (*type == "reasoning") return add_reasoning(item);
    if (*type == "function_call") return add_call(item);
    if (*type == "function_call_output") return add_result(item);
    return item.expected("type",
                         fmt::format("'message', 'function_call', 'function_call_output' or 'reasoning' (not '{}')", *type));
  }
  std::vector<ChatMessage> take() { return std::move(out_); }

 private:
  Status add_message(const JsonFields& item) {
    constexpr std::array<std::string_view, 4> kRoles{"system", "developer", "user", "assistant"};
    CELSLM_TRY(std::string role, item.required_text("role", 64));
    if (!std::ranges::contains(kRoles, role)) return item.expected("role", "'system', 'developer', 'user' or 'assistant'");
    CELSLM_TRY(std::string text, text_of(item, "content"));
    if (role == "developer") role = "system";
    if (role == "assistant") {
      ChatMessage& turn = assistant();
      turn.content += (turn.content.empty() ? "" : "\n") + text;
    } else {
      out_.push_back({.role = std::move(role), .content = std::move(text)});
    }
    return {};
  }

  Status add_reasoning(const JsonFields& item) {
    for (const char* name : {"content", "summary"}) {
      const json* list = item.find(name);
      if (list == nullptr || (list->is_array() && list->empty())) continue;
      CELSLM_TRY(std::string text, text_of(item, name));
      assistant().reasoning = std::move(text);
      return {};
    }
    return {};
  }

  Status add_call(const JsonFields& item) {
    CELSLM_TRY(ToolCall call, call_of(item));
    ChatMessage& turn = assistant();
    if (turn.tool_calls.size() == kMaxCallsInMessage)
      return item.expected("type", fmt::format("another: at most {} calls may follow one another", kMaxCallsInMessage));
    turn.tool_calls.push_back(std::move(call));
    return {};
  }

  Status add_result(const JsonFields& item) {
    CELSLM_TRY(std::string id, item.required_text("call_id", kMaxCallIdBytes));
    CELSLM_TRY(std::string output, text_of(item, "output"));
    out_.push_back({.role = "tool", .content = std::move(output), .tool_call_id = std::move(id)});
    return {};
  }

  ChatMessage& assistant() {
    if (out_.empty() || out_.back().role != "assistant") out_.push_back({.role = "assistant", .content = {}});
    return out_.back();
  }

  std::vector<ChatMessage> out_;
};

Result<std::vector<ChatMessage>> messages_of(const JsonFields& fields) {
  CELSLM_TRY(auto instructions, fields.text("instructions"));
  std::vector<ChatMessage> out;
  const json* input = fields.find("input");
  if (input != nullptr && input->is_string()) {
    out.push_back({.role = "user", .content = input->get<std::string>()});
  } else {
    if (input == nullptr || !input->is_array() || input->empty() || input->size() > kMaxItems)
      return fields.expected("input", fmt::format("a string or an array of 1 to {} items", kMaxItems));
    InputReader reader;
    for (std::size_t i = 0; i < input->size(); ++i) {
      CELSLM_TRY(const JsonFields item, JsonFields::of((*input)[i], fmt::format("input[{}]", i)));
      CELSLM_CHECK_OK(reader.add(item));
    }
    out = reader.take();
  }
  if (!instructions || instructions->empty()) return out;
  if (!out.empty() && out.front().role == "system") {
    out.front().content = *instructions + "\n\n" + out.front().content;
  } else {
    out.insert(out.begin(), {.role = "system", .content = *std::move(instructions)});
  }
  return out;
}

// The chat request with the same settings, and without messages and tools of its own.
ordered settings_of(const ordered& body) {
  ordered out = {{"messages", ordered::array({{{"role", "user"}, {"content", "-"}}})}};
  for (const char* name :
       {"model", "temperature", "top_p", "stream", "seed", "stop", "top_k", "min_p", "frequency_penalty", "presence_penalty",
        "repeat_penalty", "logit_bias", "grammar", "x_celslm", "chat_template_kwargs"}) {
    if (const auto it = body.find(name); it != body.end()) out[name] = *it;
  }
  if (const auto it = body.find("max_output_tokens"); it != body.end()) out["max_completion_tokens"] = *it;
  const auto text = body.find("text");
  if (text == body.end() || !text->is_object() || !text->contains("format")) return out;
  ordered format = (*text)["format"];
  if (format.is_object() && format.contains("type") && format["type"] == "json_schema") {
    format.erase("type");
    format = {{"type", "json_schema"}, {"json_schema", std::move(format)}};
  }
  out["response_format"] = std::move(format);
  return out;
}

Result<bool> thinking_of(const JsonFields& fields, bool otherwise) {
  CELSLM_TRY(const auto reasoning, fields.object("reasoning"));
  if (!reasoning) return otherwise;
  CELSLM_TRY(const auto effort, reasoning->text("effort", 64));
  if (!effort) return otherwise;
  constexpr std::array<std::string_view, 6> kEfforts{"none", "minimal", "low", "medium", "high", "xhigh"};
  if (!std::ranges::contains(kEfforts, *effort))
    return reasoning->expected("effort", "'none' or 'minimal' (no thoughts), 'low', 'medium', 'high' or 'xhigh' (thoughts)");
  return *effort != "none" && *effort != "minimal";
}

json shown_of(const json& body) {
  json out = {{"instructions", nullptr},
              {"max_output_tokens", nullptr},
              {"metadata", json::object()},
              {"parallel_tool_calls", true},
              {"temperature", 0.0},
              {"tool_choice", "auto"},
              {"tools", json::array()},
              {"top_p", 1.0},
              {"text", {{"format", {{"type", "text"}}}}},
              {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}}};
  for (const auto& [name, value] : out.items()) {
    if (const auto it = body.find(name); it != body.end() && !it->is_null()) out[name] = *it;
  }
  return out;
}

}  // namespace

Result<ResponsesRequest> parse_responses_request(std::string_view body) {
  CELSLM_TRY(const json object, parse_object(body));
  const JsonFields fields(object);
  CELSLM_CHECK_OK(refuse_unsupported(fields));
  CELSLM_CHECK_OK(fields.integer("max_output_tokens", 1, std::numeric_limits<int>::max()).transform([](auto) {}));
  CELSLM_CHECK_OK(fields.object("text").transform([](const auto&) {}));
  const ordered in_order = ordered::parse(body, nullptr, false);
  CELSLM_TRY(CompletionRequest completion,
             parse_chat_request(settings_of(in_order).dump(-1, ' ', false, ordered::error_handler_t::replace)));
  CELSLM_TRY(completion.messages, messages_of(fields));
  CELSLM_TRY(completion.tools, flat_tools_of(fields, body));
  CELSLM_TRY(completion.thinking, thinking_of(fields, completion.thinking));
  if (completion.context && completion.messages.front().role == "system")
    return fields.expected("x_celslm.context", "absent when there are instructions or a system message");
  return ResponsesRequest{.completion = std::move(completion), .shown = shown_of(object)};
}

}  // namespace celslm
