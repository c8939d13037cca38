#include <fmt/format.h>

#include "core/json.h"
#include "serve/openai/responses.h"

namespace celslm {
namespace {

using nlohmann::json;

json text_part(bool thoughts) {
  if (thoughts) return {{"type", "reasoning_text"}, {"text", ""}};
  return {{"type", "output_text"}, {"text", ""}, {"annotations", json::array()}, {"logprobs", json::array()}};
}

json usage_of(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"reasoning_tokens", 0}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

}  // namespace

ResponsesWriter::ResponsesWriter(const ResponsesRequest& request, std::string model, std::string_view unique,
                                 std::int64_t created_unix_s)
    : unique_(unique), response_(request.shown) {
  response_.update({{"id", fmt::format("resp_{}", unique)},
                    {"object", "response"},
                    {"created_at", created_unix_s},
                    {"status", "in_progress"},
                    {"background", false},
                    {"error", nullptr},
                    {"incomplete_details", nullptr},
                    {"model", std::move(model)},
                    {"output", json::array()},
                    {"previous_response_id", nullptr},
                    {"store", false},
                    {"truncation", "disabled"},
                    {"usage", nullptr}});
}

std::string ResponsesWriter::event(const char* type, json fields) {
  fields["type"] = type;
  fields["sequence_number"] = n_events_++;
  return fmt::format("event: {}\ndata: {}\n\n", type, dump_json(fields));
}

std::string ResponsesWriter::item_id(const char* prefix) const {
  return fmt::format("{}_{}{:03}", prefix, unique_, response_["output"].size());
}

std::string ResponsesWriter::begin() {
  std::string out = event("response.created", {{"response", response_}});
  out += event("response.in_progress", {{"response", response_}});  // not in one expression: they are numbered in order
  return out;
}

std::string ResponsesWriter::part_event(const char* type, const json& part) {
  return event(
      type,
      {{"item_id", item()["id"]}, {"output_index", response_["output"].size() - 1}, {"content_index", 0}, {"part", part}});
}

std::string ResponsesWriter::open(Open kind, json item) {
  std::string out = close("completed");
  item["status"] = "in_progress";
  response_["output"].push_back(std::move(item));
  open_ = kind;
  out += event("response.output_item.added",
               {{"output_index", response_["output"].size() - 1}, {"item", response_["output"].back()}});
  if (kind == Open::kCall) return out;
  this->item()["content"] = json::array({text_part(kind == Open::kReasoning)});
  return out + part_event("response.content_part.added", this->item()["content"][0]);
}

std::string ResponsesWriter::close(const char* status) {
  if (open_ == Open::kNothing) return {};
  json about = {{"item_id", item()["id"]}, {"output_index", response_["output"].size() - 1}};
  std::string out;
  if (open_ == Open::kCall) {
    about["arguments"] = item()["arguments"];
    about["name"] = item()["name"];
    out = event("response.function_call_arguments.done", std::move(about));
  } else {
    const bool thoughts = open_ == Open::kReasoning;
    about["content_index"] = 0;
    about["text"] = item()["content"][0]["text"];
    if (!thoughts) about["logprobs"] = json::array();
    out = event(thoughts ? "response.reasoning_text.done" : "response.output_text.done", std::move(about));
    out += part_event("response.content_part.done", item()["content"][0]);
  }
  item()["status"] = status;
  open_ = Open::kNothing;
  return out + event("response.output_item.done", {{"output_index", response_["output"].size() - 1}, {"item", item()}});
}

std::string ResponsesWriter::text_delta(Open kind, const std::string& text) {
  const bool thoughts = kind == Open::kReasoning;
  std::string out;
  if (open_ != kind) {
    json item =
        thoughts ? json{{"id", item_id("rs")}, {"type", "reasoning"}, {"summary", json::array()}, {"content", json::array()}}
                 : json{{"id", item_id("msg")}, {"type", "message"}, {"role", "assistant"}, {"content", json::array()}};
    out = open(kind, std::move(item));
  }
  auto& shown = item()["content"][0]["text"].get_ref<std::string&>();
  shown += text;
  json fields = {
      {"item_id", item()["id"]}, {"output_index", response_["output"].size() - 1}, {"content_index", 0}, {"delta", text}};
  if (!thoughts) fields["logprobs"] = json::array();
  return out + event(thoughts ? "response.reasoning_text.delta" : "response.output_text.delta", std::move(fields));
}

std::string ResponsesWriter::call_delta(const CallDelta& delta) {
  std::string out;
  if (open_ != Open::kCall || call_ != delta.index) {
    out = open(Open::kCall, {{"id", item_id("fc")},
                             {"type", "function_call"},
                             {"call_id", call_id(unique_, delta.index)},
                             {"name", delta.name},
                             {"arguments", ""}});
    call_ = delta.index;
  }
  if (delta.arguments.empty()) return out;
  item()["arguments"].get_ref<std::string&>() += delta.arguments;
  return out +
         event("response.function_call_arguments.delta",
               {{"item_id", item()["id"]}, {"output_index", response_["output"].size() - 1}, {"delta", delta.arguments}});
}

std::string ResponsesWriter::add(const AnswerDelta& delta) {
  std::string out;
  if (!delta.reasoning.empty()) out += text_delta(Open::kReasoning, delta.reasoning);
  if (!delta.content.empty()) out += text_delta(Open::kMessage, delta.content);
  for (const CallDelta& call : delta.calls) out += call_delta(call);
  return out;
}

std::string ResponsesWriter::end(FinishReason reason, const Usage& usage, const json& x_celslm) {
  std::string out;
  if (response_["output"].empty()) out += text_delta(Open::kMessage, "");
  const bool complete = reason == FinishReason::kStop;
  const char* status = complete ? "completed" : "incomplete";
  out += close(status);
  if (!complete) response_["incomplete_details"] = {{"reason", "max_output_tokens"}};
  response_["status"] = status;
  response_["usage"] = usage_of(usage);
  response_["x_celslm"] = x_celslm;
  return out + event(complete ? "response.completed" : "response.incomplete", {{"response", response_}});
}

std::string ResponsesWriter::fail(const Error& error) {
  std::string out = close("incomplete");
  response_["status"] = "failed";
  response_["error"] = {{"code", "server_error"}, {"message", error.message}};
  return out + event("response.failed", {{"response", response_}});
}

}  // namespace celslm
