#include "serve/route/passed_events.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::string_view kData = "data: ";
constexpr std::string_view kEnd = "\n\n";

// The JSON of an event's only data line.
std::optional<json> data_of(std::string_view event) {
  const std::size_t at = event.starts_with(kData) ? 0 : event.find("\ndata: ");
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view line = event.substr(event.find(kData, at) + kData.size());
  auto parsed = parse_object(line.substr(0, line.find('\n')));
  return parsed ? std::optional(*std::move(parsed)) : std::nullopt;
}

bool has_text(const json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() && !it->get_ref<const std::string&>().empty();
}

bool is_list(const json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_array() && !it->empty();
}

bool is_text(const json& choice) {
  if (!choice.is_object()) return false;
  if (has_text(choice, "finish_reason") || has_text(choice, "text")) return true;
  const auto delta = choice.find("delta");
  if (delta == choice.end() || !delta->is_object()) return false;
  return has_text(*delta, "content") || has_text(*delta, "reasoning_content") || delta->contains("tool_calls");
}

// Where "x_celslm" is: in the answer itself, or (in the events of /v1/responses) in the response that it brings.
json* extension_of(json& answer) {
  if (const auto it = answer.find("x_celslm"); it != answer.end() && it->is_object()) return &*it;
  const auto response = answer.find("response");
  if (response == answer.end() || !response->is_object()) return nullptr;
  const auto it = response->find("x_celslm");
  return it != response->end() && it->is_object() ? &*it : nullptr;
}

}  // namespace

Result<std::vector<std::string>> EventSplitter::add(std::string_view piece) {
  std::vector<std::string> out;
  const std::size_t searched = rest_.size();
  rest_ += piece;
  std::size_t begin = 0;
  for (std::size_t end = rest_.find(kEnd, searched == 0 ? 0 : searched - 1); end != std::string::npos;
       end = rest_.find(kEnd, begin)) {
    std::string event = rest_.substr(begin, end + kEnd.size() - begin);
    begin = end + kEnd.size();
    if (!event.starts_with(':') && event.size() > kEnd.size()) out.push_back(std::move(event));
  }
  rest_.erase(0, begin);
  if (rest_.size() > kMaxEventBytes)
    return fail(ErrorKind::kInvalid, "an event of the other node's stream has more than {} bytes", kMaxEventBytes);
  return out;
}

EventKind kind_of_event(std::string_view event) {
  const auto data = data_of(event);
  if (!data) return is_last_event(event) ? EventKind::kText : EventKind::kBefore;
  if (data->contains("error") && (*data)["error"].is_object()) return EventKind::kError;
  const auto type = data->find("type");  // /v1/responses
  if (type != data->end() && type->is_string()) {
    const auto& name = type->get_ref<const std::string&>();
    if (name == "error" || name == "response.failed") return EventKind::kError;
    const bool text = name.ends_with(".delta") || name == "response.completed" || name == "response.incomplete";
    return text ? EventKind::kText : EventKind::kBefore;
  }
  const auto choices = data->find("choices");
  if (choices == data->end() || !choices->is_array()) return EventKind::kBefore;
  return std::ranges::any_of(*choices, is_text) ? EventKind::kText : EventKind::kBefore;
}

bool is_last_event(std::string_view event) {
  return event.starts_with("data: [DONE]") || event.starts_with("event: response.completed") ||
         event.starts_with("event: response.incomplete") || event.starts_with("event: response.failed");
}

std::string with_notes(std::string event, const json& notes) {
  if (!event.contains("\"x_celslm\":")) return event;  // in text the quotes would be escaped
  auto data = data_of(event);
  json* extension = data ? extension_of(*data) : nullptr;
  if (extension == nullptr) return event;
  extension->update(notes);
  const std::size_t at = event.starts_with(kData) ? 0 : event.find("\ndata: ") + 1;
  return event.substr(0, at) + std::string(kData) + dump_json(*data) + std::string(kEnd);
}

Result<json> answer_with_notes(std::string_view body, const json& notes) {
  CELSLM_TRY(json answer, parse_object(body));
  json* extension = extension_of(answer);
  const bool has_answer = is_list(answer, "choices") || is_list(answer, "output");
  if (extension == nullptr || !has_answer)
    return fail(ErrorKind::kInvalid, "the other node's answer is none of a celslm edge");
  extension->update(notes);
  return answer;
}

std::int64_t answer_tokens(const json& answer) {
  const auto usage = answer.find("usage");
  if (usage == answer.end() || !usage->is_object()) return 0;
  for (const char* name : {"completion_tokens", "output_tokens"}) {
    const auto count = usage->find(name);
    if (count != usage->end() && count->is_number_unsigned())
      return static_cast<std::int64_t>(std::min<std::uint64_t>(count->get<std::uint64_t>(), kMaxReportedTokens));
  }
  return 0;
}

}  // namespace celslm
