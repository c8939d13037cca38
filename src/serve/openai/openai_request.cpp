#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "serve/openai/openai.h"
#include "serve/openai/prompts.h"
#include "serve/openai/response_format.h"
#include "serve/openai/unsupported.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxDeadlineMs = 3'600'000;  // an hour is never
constexpr std::int64_t kMaxInt = std::numeric_limits<int>::max();

Result<std::string> role_of(const JsonFields& message) {
  constexpr std::array<std::string_view, 4> kRoles{"system", "user", "assistant", "tool"};
  CELSLM_TRY(const auto role, message.text("role", 64));
  if (role == "developer") return "system";
  if (!role || !std::ranges::contains(kRoles, *role)) {
    return message.expected("role", "'system', 'developer', 'user', 'assistant' or 'tool'");
  }
  return *role;
}

Result<std::string> text_of_parts(const json& parts, const std::string& path) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string name = fmt::format("{}[{}]", path, i);
    CELSLM_TRY(const JsonFields part, JsonFields::of(parts[i], name));
    CELSLM_TRY(const auto type, part.text("type", 64));
    if (type != "text") {
      return part.expected("type", fmt::format("'text', the only kind of content here (not '{}')", type.value_or("")));
    }
    CELSLM_TRY(const std::string text, part.required_text("text"));
    if (i > 0) out += '\n';
    out += text;
  }
  return out;
}

Result<std::string> content_of(const JsonFields& message, const std::string& role) {
  const json* content = message.find("content");
  if (content == nullptr && role == "assistant") return "";  // an answer that was a refusal or a tool call
  if (content != nullptr && role == "tool" && content->is_array() && content->empty()) return "";
  if (content != nullptr && content->is_string()) return content->get<std::string>();
  if (content == nullptr || !content->is_array() || content->empty()) {
    return message.expected("content", "a string or an array of text parts");
  }
  return text_of_parts(*content, message.path("content"));
}

Status read_tool_parts(const JsonFields& message, ChatMessage& out) {
  if (out.role == "assistant") {
    CELSLM_TRY(out.tool_calls, calls_of(message));
    CELSLM_TRY(auto reasoning, message.text("reasoning_content"));
    out.reasoning = std::move(reasoning).value_or("");
  } else if (out.role == "tool") {
    CELSLM_TRY(auto id, message.text("tool_call_id", kMaxCallIdBytes));
    out.tool_call_id = std::move(id).value_or("");
  }
  return {};
}

Result<std::vector<ChatMessage>> messages_of(const JsonFields& fields) {
  const json* messages = fields.find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    return fields.expected("messages", "an array of at least one message");
  }
  std::vector<ChatMessage> out;
  for (const json& item : *messages) {
    const std::string path = fmt::format("messages[{}]", out.size());
    CELSLM_TRY(const JsonFields message, JsonFields::of(item, path));
    CELSLM_TRY(std::string role, role_of(message));
    CELSLM_TRY(std::string content, content_of(message, role));
    out.push_back({.role = std::move(role), .content = std::move(content)});
    CELSLM_CHECK_OK(read_tool_parts(message, out.back()));
  }
  return out;
}

Result<std::vector<std::string>> stops_of(const JsonFields& fields) {
  const json* stop = fields.find("stop");
  if (stop == nullptr) return {};
  const std::string what =
      fmt::format("a string or an array of at most {} strings, each of 1 to {} bytes", kMaxStops, kMaxStopBytes);
  const json list = stop->is_array() ? *stop : json::array({*stop});
  if (list.size() > kMaxStops) return fields.expected("stop", what);
  std::vector<std::string> out;
  for (const json& item : list) {
    if (!item.is_string()) return fields.expected("stop", what);
    const auto& text = item.get_ref<const std::string&>();
    if (text.empty() || text.size() > kMaxStopBytes) return fields.expected("stop", what);
    out.push_back(text);
  }
  return out;
}

// One number from the API's 64 bits; small seeds stay themselves.
std::uint32_t folded(std::int64_t seed) {
  const auto bits = static_cast<std::uint64_t>(seed);
  const auto out = static_cast<std::uint32_t>(bits ^ (seed < 0 ? ~bits >> 32U : bits >> 32U));
  constexpr std::uint32_t kDrawnByTheSampler = 0xFFFFFFFF;  // LLAMA_DEFAULT_SEED: would not be reproducible
  return out == kDrawnByTheSampler ? out - 1 : out;
}

Status read_number(const JsonFields& fields, std::string_view name, double low, double high, float& out) {
  CELSLM_TRY(const auto value, fields.number(name, low, high));
  if (value) out = static_cast<float>(*value);
  return {};
}

Status read_choices(const JsonFields& fields, CompletionRequest& request) {
  CELSLM_TRY(const auto n, fields.integer("n", 1, kMaxTexts));
  request.n = static_cast<int>(n.value_or(1));
  if (static_cast<std::size_t>(request.n) * std::max<std::size_t>(request.prompts.size(), 1) > kMaxTexts)
    return fields.expected("n", fmt::format("so small that all prompts together ask for at most {} texts", kMaxTexts));
  CELSLM_TRY(request.sampler.logit_bias, logit_bias_of(fields));
  return {};
}

Status read_numbers(const JsonFields& fields, CompletionRequest& request) {
  SamplerOptions& s = request.sampler;
  CELSLM_CHECK_OK(read_number(fields, "temperature", 0, 2, s.temperature));
  CELSLM_CHECK_OK(read_number(fields, "top_p", 0, 1, s.top_p));
  CELSLM_CHECK_OK(read_number(fields, "min_p", 0, 1, s.min_p));
  CELSLM_CHECK_OK(read_number(fields, "frequency_penalty", -2, 2, s.frequency_penalty));
  CELSLM_CHECK_OK(read_number(fields, "presence_penalty", -2, 2, s.presence_penalty));
  CELSLM_CHECK_OK(read_number(fields, "repeat_penalty", 0.1, 10, s.repeat_penalty));
  CELSLM_TRY(const auto top_k, fields.integer("top_k", -1, kMaxInt));  // 0 and -1: off
  s.top_k = static_cast<int>(std::max<std::int64_t>(top_k.value_or(0), 0));
  CELSLM_TRY(const auto seed,
             fields.integer("seed", std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()));
  request.seed_given = seed.has_value();
  s.seed = folded(seed.value_or(0));
  const int least = request.chat ? 1 : 0;
  CELSLM_TRY(const auto old_name, fields.integer("max_tokens", least, kMaxInt));
  CELSLM_TRY(const auto new_name, fields.integer("max_completion_tokens", least, kMaxInt));
  if (const auto max_tokens = new_name ? new_name : old_name) request.max_tokens = static_cast<int>(*max_tokens);
  return read_choices(fields, request);
}

Status read_stream(const JsonFields& fields, CompletionRequest& request) {
  CELSLM_TRY(const auto stream, fields.flag("stream"));
  request.stream = stream.value_or(false);
  CELSLM_TRY(const auto options, fields.object("stream_options"));
  if (!options) return {};
  CELSLM_TRY(const auto include_usage, options->flag("include_usage"));
  request.include_usage = request.stream && include_usage.value_or(false);
  return {};
}

Status read_extension(const JsonFields& fields, CompletionRequest& request) {
  CELSLM_TRY(const auto extension, fields.object("x_celslm"));
  if (!extension) return {};
  CELSLM_TRY(const auto deadline, extension->integer("deadline_ms", 0, kMaxDeadlineMs));
  if (deadline) request.deadline = std::chrono::milliseconds(*deadline);
  CELSLM_TRY(const auto policy, extension->text("policy", 64));
  if (policy) request.policy = policy_from(*policy);
  if (policy && !request.policy) return extension->expected("policy", "'edge-only', 'fleet' or 'cloud'");
  CELSLM_TRY(const auto confidence, extension->flag("confidence"));
  request.confidence = confidence.value_or(false);
  CELSLM_TRY(const auto hex, extension->text("context", 1024));
  if (!hex) return {};
  const auto handle = ContextHandle::from_hex(*hex);
  if (!handle) return extension->expected("context", "a context's handle: 64 hex digits, as 'celslm context put' prints it");
  request.context = *handle;
  return {};
}

Status read_chat_logprobs(const JsonFields& fields, CompletionRequest& request) {
  CELSLM_TRY(const auto logprobs, fields.flag("logprobs"));
  request.logprobs = logprobs.value_or(false);
  CELSLM_TRY(const auto top, fields.integer("top_logprobs", 0, kMaxTopLogprobs));
  if (top && !request.logprobs) return fields.expected("logprobs", "true when 'top_logprobs' is given");
  request.top_logprobs = static_cast<int>(top.value_or(0));
  return {};
}

// Completions give a number; 0 means the chosen token only.
Status read_completion_logprobs(const JsonFields& fields, CompletionRequest& request) {
  CELSLM_TRY(const auto top, fields.integer("logprobs", 0, kMaxTopLogprobs));
  request.logprobs = top.has_value();
  request.top_logprobs = static_cast<int>(top.value_or(0));
  return {};
}

// How the model thinks, and whether its thoughts are kept apart: fields of other servers that run models locally.
Status read_reasoning(const JsonFields& fields, CompletionRequest& request) {
  CELSLM_TRY(const auto arguments, fields.object("chat_template_kwargs"));
  if (arguments) {
    CELSLM_TRY(const auto thinking, arguments->flag("enable_thinking"));
    request.thinking = thinking.value_or(true);
  }
  CELSLM_TRY(const auto format, fields.text("reasoning_format", 64));
  if (format && *format != "none" && *format != "auto" && *format != "deepseek")
    return fields.expected("reasoning_format", "'auto', 'deepseek' or 'none'");
  request.keep_thoughts = format == "none";
  return {};
}

Status read_continuation(const JsonFields& fields, CompletionRequest& request) {
  CELSLM_TRY(const auto continues, fields.flag("continue_final_message"));
  request.continue_final_message = continues.value_or(false);
  CELSLM_TRY(const auto new_turn, fields.flag("add_generation_prompt"));
  if (new_turn.value_or(!request.continue_final_message) == request.continue_final_message) {
    return fields.expected("add_generation_prompt",
                           "absent, or the opposite of 'continue_final_message': an answer is a new turn or continues one");
  }
  if (!request.continue_final_message) return {};
  const ChatMessage& last = request.messages.back();
  if (last.role != "assistant" || last.content.empty())
    return fields.expected("messages", "an array that ends with an assistant's text when 'continue_final_message' is true");
  return {};
}

Status read_common(const JsonFields& fields, CompletionRequest& request) {
  CELSLM_TRY(const auto model, fields.text("model", 1024));
  request.model = model.value_or("");
  CELSLM_CHECK_OK(read_numbers(fields, request));
  CELSLM_TRY(request.stop, stops_of(fields));
  CELSLM_CHECK_OK(read_stream(fields, request));
  return read_extension(fields, request);
}

}  // namespace

Result<CompletionRequest> parse_chat_request(std::string_view body) {
  CELSLM_TRY(const json object, parse_object(body));
  const JsonFields fields(object);
  CompletionRequest request;
  CELSLM_CHECK_OK(refuse_unsupported(fields, kChatFields));
  CELSLM_TRY(request.messages, messages_of(fields));
  CELSLM_CHECK_OK(read_common(fields, request));
  CELSLM_TRY(request.sampler.grammar, read_response_format(fields, body));
  CELSLM_CHECK_OK(read_chat_logprobs(fields, request));
  CELSLM_TRY(request.tools, tools_of(fields, body));
  request.own_grammar = fields.find("grammar") != nullptr;
  const ToolChoice choice = request.tools.choice;
  if (request.own_grammar && (choice == ToolChoice::kRequired || choice == ToolChoice::kNamed))
    return fields.expected("grammar", "absent when 'tool_choice' requires a call: the answer cannot follow both");
  CELSLM_CHECK_OK(read_reasoning(fields, request));
  CELSLM_CHECK_OK(read_continuation(fields, request));
  if (request.context && request.messages.front().role == "system") {
    return fields.expected("x_celslm.context",
                           "absent when the first message is a system message: the context is that message");
  }
  return request;
}

Result<CompletionRequest> parse_completion_request(std::string_view body) {
  CELSLM_TRY(const json object, parse_object(body));
  const JsonFields fields(object);
  CELSLM_CHECK_OK(refuse_unsupported(fields, kCompletionFields));
  CELSLM_TRY(std::vector<Prompt> prompts, prompts_of(fields));
  CompletionRequest request{.chat = false, .prompt = prompts.front(), .prompts = std::move(prompts)};
  CELSLM_TRY(const auto echo, fields.flag("echo"));
  request.echo = echo.value_or(false);
  CELSLM_CHECK_OK(read_common(fields, request));
  CELSLM_TRY(request.sampler.grammar, read_response_format(fields, body));
  CELSLM_CHECK_OK(read_completion_logprobs(fields, request));
  return request;
}

}  // namespace celslm
