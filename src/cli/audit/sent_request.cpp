#include "cli/audit/sent_request.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace celslm {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::string_view kHeadEnd = "\r\n\r\n";

TimePoint time_of(const Conversation& conversation, std::size_t offset) {
  const auto it = std::ranges::upper_bound(conversation.arrivals, offset, {}, &Conversation::Arrival::end);
  return it == conversation.arrivals.end() ? TimePoint{} : it->at;
}

bool parse_head(std::string_view head, SentRequest& out) {
  const std::string_view line = head.substr(0, head.find(kLineEnd));
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last || !line.substr(last + 1).starts_with("HTTP/1.")) return false;
  out.method = line.substr(0, first);
  out.target = line.substr(first + 1, last - first - 1);
  for (std::string_view rest = head.substr(line.size()); rest.starts_with(kLineEnd);) {
    rest.remove_prefix(kLineEnd.size());
    const std::string_view field = rest.substr(0, rest.find(kLineEnd));
    rest.remove_prefix(field.size());
    const std::size_t colon = field.find(':');
    if (colon == std::string_view::npos) return field.empty() && rest.empty();
    std::string_view value = field.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    out.headers.emplace_back(field.substr(0, colon), value);
  }
  return true;
}

// nullopt: a body without a length (chunked), which no request of an edge has.
std::optional<std::size_t> body_bytes(const SentRequest& request) {
  if (request.header("transfer-encoding") != nullptr) return std::nullopt;
  const std::string* const text = request.header("content-length");
  if (text == nullptr) return 0;
  std::size_t out = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), out);
  return error == std::errc() && end == text->data() + text->size() ? std::optional(out) : std::nullopt;
}

void add_requests(const Conversation& conversation, std::vector<SentRequest>& out) {
  const std::string_view sent = conversation.sent;
  for (std::size_t at = 0; at < sent.size();) {
    SentRequest request{.source = conversation.source, .at = time_of(conversation, at)};
    const std::size_t head_end = sent.find(kHeadEnd, at);
    const bool complete = head_end != std::string_view::npos && parse_head(sent.substr(at, head_end - at), request);
    const auto length = complete ? body_bytes(request) : std::nullopt;
    if (length) {
      const std::size_t body = head_end + kHeadEnd.size();
      request.body = sent.substr(body, *length);
      request.bytes = body - at + request.body.size();
    } else {
      request = {.source = conversation.source, .at = request.at, .body = std::string(sent.substr(at))};
      request.bytes = request.body.size();
    }
    at += request.bytes;
    out.push_back(std::move(request));
  }
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

const std::string* SentRequest::header(std::string_view lower_case_name) const {
  const auto it = std::ranges::find_if(headers, [&](const auto& h) { return lower_case(h.first) == lower_case_name; });
  return it == headers.end() ? nullptr : &it->second;
}

std::vector<SentRequest> requests_in(const std::vector<Conversation>& conversations) {
  std::vector<SentRequest> out;
  for (const Conversation& conversation : conversations) add_requests(conversation, out);
  std::ranges::stable_sort(out, {}, &SentRequest::at);
  return out;
}

}  // namespace celslm
