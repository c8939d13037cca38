// Calls that are read when they are complete. They come from a model: whatever does not parse is no call.
#include <nlohmann/json.hpp>
#include <optional>

#include "core/json.h"
#include "core/text.h"
#include "serve/openai/call_body.h"

namespace celslm {
namespace {

using json = nlohmann::ordered_json;

constexpr std::string_view kBlanks = " \t\n\r";
constexpr int kMaxDepth = 32;  // of values; the reader calls itself once for each
constexpr std::size_t kMaxCallsRead = 128;

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Within the limits that requests have.
std::optional<json> parsed_object(std::string_view text) {
  if (!parse_object(text)) return std::nullopt;
  return json::parse(text, nullptr, false);
}

std::optional<ReadCall> json_call(const json& object) {
  if (!object.is_object()) return std::nullopt;
  const auto name = object.find("name");
  if (name == object.end() || !name->is_string()) return std::nullopt;
  auto arguments = object.find("arguments");
  if (arguments == object.end()) arguments = object.find("parameters");
  if (arguments == object.end()) return std::nullopt;
  ReadCall out{.name = name->get<std::string>(), .arguments = "{}"};
  if (arguments->is_object()) {
    out.arguments = dumped(*arguments);
  } else if (arguments->is_string()) {  // JSON within JSON, as in the API
    out.arguments = arguments->get<std::string>();
  } else if (!arguments->is_null()) {
    return std::nullopt;
  }
  return out;
}

// Gemma's values: like JSON, but keys stand without quotes and strings between words.
class GemmaReader {
 public:
  GemmaReader(std::string_view text, std::string_view quote) : rest_(text), quote_(quote) {}

  std::optional<json> object(int depth) {
    if (!take("{") || depth > kMaxDepth) return std::nullopt;
    json out = json::object();
    if (take("}")) return out;
    do {
      const auto key = this->key();
      if (!key || !take(":")) return std::nullopt;
      auto value = this->value(depth + 1);
      if (!value) return std::nullopt;
      out[*key] = *std::move(value);
    } while (take(","));
    return take("}") ? std::optional(std::move(out)) : std::nullopt;
  }
  bool at_end() { return trimmed(rest_, kBlanks).empty(); }

 private:
  bool take(std::string_view word) {
    const std::size_t first = rest_.find_first_not_of(kBlanks);
    if (first == std::string_view::npos || !rest_.substr(first).starts_with(word)) return false;
    rest_.remove_prefix(first + word.size());
    return true;
  }

  std::optional<std::string> string() {
    const std::size_t end = rest_.find(quote_);
    if (end == std::string_view::npos) return std::nullopt;
    std::string out(rest_.substr(0, end));
    rest_.remove_prefix(end + quote_.size());
    return out;
  }

  std::optional<std::string> key() {
    if (take(quote_)) return string();
    const std::size_t end = rest_.find(':');
    if (end == std::string_view::npos || end == 0) return std::nullopt;
    std::string out(trimmed(rest_.substr(0, end), kBlanks));
    rest_.remove_prefix(end);
    return out;
  }

  std::optional<json> list(int depth) {
    json out = json::array();
    if (depth > kMaxDepth) return std::nullopt;
    if (take("]")) return out;
    do {
      auto value = this->value(depth + 1);
      if (!value) return std::nullopt;
      out.push_back(*std::move(value));
    } while (take(","));
    return take("]") ? std::optional(std::move(out)) : std::nullopt;
  }

  std::optional<json> value(int depth) {
    if (take(quote_)) {
      auto text = string();
      return text ? std::optional<json>(*std::move(text)) : std::nullopt;
    }
    if (take("[")) return list(depth);
    const std::size_t first = std::min(rest_.find_first_not_of(kBlanks), rest_.size());
    if (rest_.substr(first).starts_with("{")) return object(depth);
    const std::size_t end = std::min(rest_.find_first_of(",}]"), rest_.size());
    const std::string_view word = trimmed(rest_.substr(0, end), kBlanks);
    rest_.remove_prefix(end);
    if (word.empty() || word.contains('{') || word.contains('[')) return std::nullopt;
    json out = json::parse(word, nullptr, false);  // a number, true, false or null
    return out.is_discarded() ? json(std::string(word)) : std::move(out);
  }

  std::string_view rest_;
  const std::string_view quote_;
};

// What lies between two words, which are taken off the text. Nullopt where they are not there.
std::optional<std::string_view> take_between(std::string_view& text, std::string_view open, std::string_view close) {
  const std::string_view start = trimmed(text, kBlanks);
  if (!start.starts_with(open)) return std::nullopt;
  const std::size_t end = start.find(close, open.size());
  if (end == std::string_view::npos) return std::nullopt;
  text = start.substr(end + close.size());
  return start.substr(open.size(), end - open.size());
}

bool wants_text(const Tool* tool, const std::string& parameter) {
  if (tool == nullptr) return false;
  const auto schema = parsed_object(tool->parameters);
  if (!schema || !schema->contains("properties") || !(*schema)["properties"].is_object()) return false;
  const auto it = (*schema)["properties"].find(parameter);
  return it != (*schema)["properties"].end() && it->is_object() && it->contains("type") && (*it)["type"] == "string";
}

json xml_value(std::string_view text, bool is_text) {
  if (!is_text && (parse_object(text) || !trimmed(text, kBlanks).starts_with("{"))) {
    json out = trimmed(text, kBlanks).starts_with("[") ? json(json::value_t::discarded) : json::parse(text, nullptr, false);
    if (!out.is_discarded()) return out;
    // A list: within the same limits, for which it stands in an object.
    if (const auto list = parsed_object("{\"list\":" + std::string(text) + "}"); list && list->size() == 1)
      return (*list)["list"];
  }
  return std::string(text);
}

}  // namespace

std::vector<ReadCall> read_json_calls(std::string_view text) {
  std::vector<ReadCall> out;
  const auto object = parsed_object(text);
  if (!object) return out;
  if (auto call = json_call(*object)) return {*std::move(call)};
  if (const auto one = object->find("tool_call"); one != object->end()) {
    if (auto call = json_call(*one)) out.push_back(*std::move(call));
    return out;
  }
  const auto several = object->find("tool_calls");
  if (several == object->end() || !several->is_array() || several->size() > kMaxCallsRead) return out;
  for (const json& item : *several) {
    auto call = json_call(item);
    if (!call) return {};
    out.push_back(*std::move(call));
  }
  return out;
}

std::vector<ReadCall> read_gemma_call(std::string_view text, std::string_view quote) {
  text = trimmed(text, kBlanks);
  if (!text.starts_with("call:")) return {};
  text.remove_prefix(5);
  const std::size_t brace = text.find('{');
  if (brace == std::string_view::npos) return {};
  GemmaReader reader(text.substr(brace), quote);
  const auto arguments = reader.object(0);
  if (!arguments || !reader.at_end()) return {};
  return {{.name = std::string(trimmed(text.substr(0, brace), kBlanks)), .arguments = dumped(*arguments)}};
}

std::vector<ReadCall> read_xml_calls(std::string_view text, const CallSink& sink) {
  std::vector<ReadCall> out;
  while (auto function = take_between(text, "<function=", "</function>")) {
    const std::size_t end = function->find('>');
    if (end == std::string_view::npos || out.size() == kMaxCallsRead) return {};
    ReadCall call{.name = std::string(function->substr(0, end)), .arguments = {}};
    std::string_view rest = function->substr(end + 1);
    json arguments = json::object();
    while (auto parameter = take_between(rest, "<parameter=", "</parameter>")) {
      const std::size_t name_end = parameter->find('>');
      if (name_end == std::string_view::npos) return {};
      const std::string name(parameter->substr(0, name_end));
      std::string_view value = parameter->substr(name_end + 1);
      if (value.starts_with('\n')) value.remove_prefix(1);
      if (value.ends_with('\n')) value.remove_suffix(1);
      arguments[name] = xml_value(value, wants_text(sink.tool(call.name), name));
    }
    if (!trimmed(rest, kBlanks).empty()) return {};
    call.arguments = dumped(arguments);
    out.push_back(std::move(call));
  }
  return trimmed(text, kBlanks).empty() ? out : std::vector<ReadCall>{};
}

}  // namespace celslm
