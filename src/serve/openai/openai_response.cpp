#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "core/utf8.h"
#include "serve/openai/openai.h"
#include "serve/wire/errors.h"

namespace celslm {
namespace {

using nlohmann::json;

const char* to_string(FinishReason reason, bool has_calls) {
  if (reason != FinishReason::kStop) return "length";
  return has_calls ? "tool_calls" : "stop";
}

json to_json(const ToolCall& call) {
  return {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

json to_json(const AnswerMessage& answer) {
  json out = {{"role", "assistant"}, {"content", answer.content}, {"refusal", nullptr}};
  if (!answer.reasoning.empty()) out["reasoning_content"] = answer.reasoning;
  if (answer.tool_calls.empty()) return out;
  if (answer.content.empty()) out["content"] = nullptr;
  for (const ToolCall& call : answer.tool_calls) out["tool_calls"].push_back(to_json(call));
  return out;
}

// The first delta of a call has its id, type and name.
json to_json(const CallDelta& call, std::string_view unique) {
  json out = {{"index", call.index}, {"function", {{"arguments", call.arguments}}}};
  if (call.name.empty()) return out;
  out["id"] = call_id(unique, call.index);
  out["type"] = "function";
  out["function"]["name"] = call.name;
  return out;
}

json to_json(const AnswerDelta& delta, std::string_view unique) {
  json out = json::object();
  // A chunk that has tokens only carries an empty content, as ever.
  if (!delta.content.empty() || (delta.reasoning.empty() && delta.calls.empty())) out["content"] = delta.content;
  if (!delta.reasoning.empty()) out["reasoning_content"] = delta.reasoning;
  for (const CallDelta& call : delta.calls) out["tool_calls"].push_back(to_json(call, unique));
  return out;
}

// JSON has no infinity; -9999 is what the API writes for a token that cannot come.
double finite(float logprob) {
  return std::isnan(logprob) ? -9999.0 : std::clamp<double>(logprob, -9999.0, 0.0);
}

std::string escaped(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

// A token that is only a part of a character has no text; the API spells out its bytes, with "bytes:" before them in
// completions.
std::string token_name(std::string_view bytes, bool chat) {
  if (is_utf8(bytes)) return std::string(bytes);
  return (chat ? "" : "bytes:") + escaped(bytes);
}

json chat_token(std::string_view bytes, float logprob) {
  json numbers = json::array();
  for (const char c : bytes) numbers.push_back(static_cast<unsigned char>(c));
  return {{"token", token_name(bytes, true)}, {"logprob", finite(logprob)}, {"bytes", std::move(numbers)}};
}

json chat_logprobs(std::span<const TokenText> tokens) {
  json content = json::array();
  for (const TokenText& token : tokens) {
    json item = chat_token(token.bytes, token.logprob);
    json& top = item["top_logprobs"] = json::array();
    for (const auto& [bytes, logprob] : token.top) top.push_back(chat_token(bytes, logprob));
    content.push_back(std::move(item));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

json completion_logprobs(std::span<const TokenText> tokens, std::size_t offset) {
  json names = json::array();
  json logprobs = json::array();
  json tops = json::array();
  json offsets = json::array();
  for (const TokenText& token : tokens) {
    const std::string name = token_name(token.bytes, false);
    if (token.is_first) {
      names.push_back(name);
      logprobs.push_back(nullptr);
      tops.push_back(nullptr);
      offsets.push_back(offset);
      offset += token.is_shown ? utf8_length(token.bytes) : 0;
      continue;
    }
    json top = {{name, finite(token.logprob)}};  // the chosen one is always among them
    for (const auto& [bytes, logprob] : token.top) top[token_name(bytes, false)] = finite(logprob);
    names.push_back(name);
    logprobs.push_back(finite(token.logprob));
    tops.push_back(std::move(top));
    offsets.push_back(offset);
    offset += utf8_length(token.bytes);
  }
  return {{"tokens", std::move(names)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

json to_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

std::string event(const json& data) {
  // A newline within would end the event early; dump() escapes those in strings and adds none.
  return "data: " + dump_json(data) + "\n\n";
}

}  // namespace

void AnswerMessage::add(const AnswerDelta& delta, std::string_view id) {
  content += delta.content;
  reasoning += delta.reasoning;
  for (const CallDelta& call : delta.calls) {
    if (call.index == tool_calls.size())
      tool_calls.push_back({.id = call_id(id, call.index), .name = call.name, .arguments = {}});
    tool_calls[call.index].arguments += call.arguments;
  }
}

std::string call_id(std::string_view unique, std::size_t index) {
  return fmt::format("call_{}{:03}", unique, index);
}

CompletionWriter::CompletionWriter(const CompletionRequest& request, std::string model, std::string_view unique,
                                   std::int64_t created_unix_s)
    : chat_(request.chat),
      logprobs_(request.logprobs),
      include_usage_(request.include_usage),
      model_(std::move(model)),
      unique_(unique),
      id_(fmt::format("{}-{}", request.chat ? "chatcmpl" : "cmpl", unique)),
      created_(created_unix_s) {}

json CompletionWriter::envelope(bool chunk) const {
  const char* chat_object = chunk ? "chat.completion.chunk" : "chat.completion";
  return {{"id", id_}, {"object", chat_ ? chat_object : "text_completion"}, {"created", created_}, {"model", model_}};
}

json CompletionWriter::logprobs(std::span<const TokenText> tokens, std::size_t offset) const {
  if (!logprobs_) return nullptr;
  return chat_ ? chat_logprobs(tokens) : completion_logprobs(tokens, offset);
}

json CompletionWriter::choice(int index, const AnswerMessage& answer, std::span<const TokenText> tokens,
                              FinishReason reason) const {
  json choice = {
      {"index", index}, {"logprobs", logprobs(tokens, 0)}, {"finish_reason", to_string(reason, !answer.tool_calls.empty())}};
  if (chat_) {
    choice["message"] = to_json(answer);
  } else {
    choice["text"] = answer.content;
  }
  return choice;
}

json CompletionWriter::response(const AnswerMessage& answer, std::span<const TokenText> tokens, FinishReason reason,
                                const Usage& usage, const json& x_celslm) const {
  return response(json::array({choice(0, answer, tokens, reason)}), usage, x_celslm);
}

json CompletionWriter::response(json choices, const Usage& usage, const json& x_celslm) const {
  json out = envelope(false);
  out["choices"] = std::move(choices);
  out["usage"] = to_json(usage);
  out["x_celslm"] = x_celslm;
  return out;
}

json CompletionWriter::chunk(int index, json choice) const {
  choice["index"] = index;
  json out = envelope(true);
  out["choices"] = json::array({std::move(choice)});
  if (include_usage_) out["usage"] = nullptr;  // sent in a separate last event, and null before
  return out;
}

std::string CompletionWriter::first_event(int index) const {
  json choice = {{"logprobs", nullptr}, {"finish_reason", nullptr}};
  if (chat_) {
    choice["delta"] = {{"role", "assistant"}, {"content", ""}};
  } else {
    choice["text"] = "";
  }
  return event(chunk(index, std::move(choice)));
}

std::string CompletionWriter::delta_event(const AnswerDelta& delta, std::span<const TokenText> tokens, int index) {
  std::size_t& offset = streamed_[index];
  json choice = {{"logprobs", tokens.empty() ? json(nullptr) : logprobs(tokens, offset)}, {"finish_reason", nullptr}};
  for (const TokenText& token : tokens) offset += token.is_shown ? utf8_length(token.bytes) : 0;
  if (!delta.calls.empty()) streamed_calls_.insert(index);
  if (chat_) {
    choice["delta"] = to_json(delta, unique_);
  } else {
    choice["text"] = delta.content;
  }
  return event(chunk(index, std::move(choice)));
}

std::string CompletionWriter::last_event(FinishReason reason, const json& x_celslm, int index) const {
  json choice = {{"logprobs", nullptr}, {"finish_reason", to_string(reason, streamed_calls_.contains(index))}};
  if (chat_) {
    choice["delta"] = json::object();
  } else {
    choice["text"] = "";
  }
  json out = chunk(index, std::move(choice));
  if (!x_celslm.is_null()) out["x_celslm"] = x_celslm;
  return event(out);
}

std::string CompletionWriter::usage_event(const Usage& usage) const {
  json out = envelope(true);
  out["choices"] = json::array();
  out["usage"] = to_json(usage);
  return event(out);
}

std::string CompletionWriter::done_event() {
  return "data: [DONE]\n\n";
}

std::string CompletionWriter::error_event(const Error& error) {
  return "data: " + error_body(answer_to(error.kind), error.message) + "\n\n";
}

}  // namespace celslm
