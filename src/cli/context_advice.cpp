#include "cli/context_advice.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/json.h"
#include "serve/wire/context_text.h"

namespace celslm {
namespace {

using nlohmann::json;

constexpr std::size_t kLeastBytes = 256;  // some 60 tokens: for less, nobody would notice the difference

using Lines = std::vector<std::string_view>;  // each with its line break

Lines lines_of(std::string_view text) {
  Lines out;
  while (!text.empty()) {
    const std::size_t size = std::min(text.find('\n'), text.size() - 1) + 1;
    out.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return out;
}

std::string_view without_break(std::string_view line) {
  return line.ends_with('\n') ? line.substr(0, line.size() - 1) : line;
}

using Counts = std::unordered_map<std::string_view, std::size_t>;

Counts counted(const Lines& lines) {
  Counts out;
  for (const std::string_view line : lines) ++out[without_break(line)];
  return out;
}

// Which lines of `first` every message of the group has, too.
std::vector<bool> shared_lines(const Lines& first, const std::vector<Counts>& others) {
  std::vector<bool> out(first.size(), true);
  for (Counts left : others) {
    for (std::size_t i = 0; i < first.size(); ++i) {
      std::size_t& n = left[without_break(first[i])];
      if (n == 0) out[i] = false;
      if (n > 0) --n;
    }
  }
  return out;
}

std::size_t bytes_in_both(const Lines& a, const Counts& b) {
  const std::vector<bool> shared = shared_lines(a, {b});
  std::size_t sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += shared[i] ? a[i].size() : 0;
  return sum;
}

using Group = std::vector<const std::string*>;

// A message joins the first group whose first message shares half of its text.
std::vector<Group> grouped(const std::vector<std::string>& messages) {
  std::vector<Group> out;
  for (const std::string& message : messages) {
    if (message.size() < kLeastBytes) continue;
    const Counts lines = counted(lines_of(message));
    const auto it = std::ranges::find_if(out, [&](const Group& group) {
      const std::string& first = *group.front();
      return first == message || 2 * bytes_in_both(lines_of(first), lines) >= std::min(first.size(), message.size());
    });
    if (it == out.end())
      out.push_back({&message});
    else
      it->push_back(&message);
  }
  return out;
}

std::size_t common_bytes(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

ContextAdvice advice_for(const Group& group) {
  const Lines first = lines_of(*group.front());
  std::vector<Counts> others;
  for (const std::string* message : group) others.push_back(counted(lines_of(*message)));
  const std::vector<bool> shared = shared_lines(first, others);
  ContextAdvice out{.n_requests = group.size()};
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (shared[i]) out.text += first[i];
  }
  out.leading_bytes = out.text.size();
  for (const std::string* message : group) out.leading_bytes = std::min(out.leading_bytes, common_bytes(out.text, *message));
  std::size_t behind = out.text.size();
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (shared[i]) {
      behind -= first[i].size();
      continue;
    }
    ++out.n_volatile;
    if (behind > 0) out.moving.push_back({i + 1, std::string(without_break(first[i])), behind});
  }
  return out;
}

// The text of a message's content: a string, or the text parts of a list.
std::string content_of(const json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return {};
  if (content->is_string()) return content->get<std::string>();
  std::string out;
  if (!content->is_array()) return out;
  for (const json& part : *content) {
    const bool text = part.is_object() && part.contains("text") && part["text"].is_string();
    if (text) out += part["text"].get<std::string>();
  }
  return out;
}

Result<std::string> system_message_of(const json& request) {
  if (!request.is_object() || !request.contains("messages") || !request["messages"].is_array())
    return fail(ErrorKind::kInvalid, "expected a chat request, an object with 'messages'");
  const json& messages = request["messages"];
  if (messages.empty() || !messages[0].is_object()) return std::string();
  const json role = messages[0].value("role", json());
  return role == "system" || role == "developer" ? plain_context_text(content_of(messages[0])) : std::string();
}

Result<std::vector<std::string>> system_messages_of(const json& requests) {
  std::vector<std::string> out;
  for (const json& request : requests) {
    CELSLM_TRY(std::string message, system_message_of(request));
    out.push_back(std::move(message));
  }
  return out;
}

}  // namespace

Result<std::vector<std::string>> system_messages_in(std::string_view file) {
  const json all = json::parse(file, nullptr, false);
  if (all.is_array()) return system_messages_of(all);
  if (!all.is_discarded()) return system_messages_of(json::array({all}));
  json requests = json::array();
  std::size_t number = 0;
  for (const std::string_view line : lines_of(file)) {
    ++number;
    if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
    requests.push_back(json::parse(line, nullptr, false));
    if (requests.back().is_discarded())
      return fail(ErrorKind::kInvalid,
                  "expected chat requests as JSON: one, a list of them, or one on each line; line {} is none", number);
  }
  return system_messages_of(requests);
}

std::vector<ContextAdvice> advise_contexts(const std::vector<std::string>& system_messages) {
  std::vector<ContextAdvice> out;
  for (const Group& group : grouped(system_messages)) {
    ContextAdvice advice = advice_for(group);
    if (group.size() > 1 && advice.text.size() >= kLeastBytes) out.push_back(std::move(advice));
  }
  std::ranges::stable_sort(out, std::greater(), [](const auto& a) { return a.text.size() * (a.n_requests - 1); });
  return out;
}

}  // namespace celslm
