#include "serve/openai/json_span.h"

#include <optional>

namespace celslm {
namespace {

constexpr std::size_t kMaxHeadBytes = 1024;  // it is read again with each byte

using State = CallHead::State;

// Reads through the text; once it has ended early or holds something else, `state` tells and nothing more is read.
struct HeadReader {
  std::string_view text;
  std::size_t at = 0;
  State state = State::kFound;

  bool fails(State reason) {
    state = reason;
    return false;
  }
  bool next_is(char c) {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r')) ++at;
    if (at == text.size()) return fails(State::kMore);
    return text[at] == c || fails(State::kOther);
  }
  bool take(char c) {
    if (!next_is(c)) return false;
    ++at;
    return true;
  }
  // A string without escapes.
  bool take_string(std::string_view& out) {
    if (!take('"')) return false;
    const std::size_t end = text.find_first_of("\"\\", at);
    if (end == std::string_view::npos) return fails(State::kMore);
    if (text[end] != '"') return fails(State::kOther);
    out = text.substr(at, end - at);
    at = end + 1;
    return true;
  }
};

// One key with its value, and the comma behind it. True where the arguments begin.
bool read_field(HeadReader& reader, std::string& name) {
  std::string_view key;
  std::string_view value;
  if (!reader.take_string(key) || !reader.take(':')) return false;
  if (key == "arguments" || key == "parameters") return (name.empty() ? reader.fails(State::kOther) : reader.next_is('{'));
  if (key != "name" && key != "type" && key != "id") return reader.fails(State::kOther);
  if (!reader.take_string(value)) return false;
  if (key == "name") name = value;
  reader.take(',');
  return false;
}

}  // namespace

CallHead read_call_head(std::string_view text) {
  if (text.size() > kMaxHeadBytes) return {.state = State::kOther, .name = {}};
  HeadReader reader{.text = text};
  CallHead out;
  bool found = false;
  if (reader.take('{')) {
    while (!found && reader.state == State::kFound) found = read_field(reader, out.name);
  }
  out.state = reader.state;
  out.arguments = reader.at;
  return out;
}

}  // namespace celslm
