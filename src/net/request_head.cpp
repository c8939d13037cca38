#include "net/request_head.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "core/text.h"
#include "net/http_limits.h"

namespace celslm {
namespace {

constexpr std::string_view kLineEnd = "\r\n";

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("!#$%&'*+-.^_`|~").contains(static_cast<char>(c));
  });
}

bool has_control(std::string_view text) {
  return std::ranges::any_of(text, [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7F; });
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

bool known_method(std::string_view method) {
  static constexpr std::array<std::string_view, 7> kMethods{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
  return std::ranges::contains(kMethods, method);
}

// What follows the authority of an absolute-form target, which must not be empty; others as they are.
std::optional<std::string_view> without_origin(std::string_view target) {
  const std::size_t mark = target.find("://");
  if (mark == std::string_view::npos) return target;
  const std::string scheme = lower(target.substr(0, mark));
  if (scheme != "http" && scheme != "https") return target;
  target.remove_prefix(mark + 3);
  const std::size_t end = std::min(target.find_first_of("/?"), target.size());
  if (end == 0) return std::nullopt;
  target.remove_prefix(end);
  return target;
}

// 200, or the status of the refusal.
int read_request_line(std::string_view line, RequestHead& out) {
  const std::size_t first = line.find(' ');
  const std::size_t second = line.find(' ', std::min(first, line.size() - 1) + 1);
  if (first == std::string_view::npos || second == std::string_view::npos || has_control(line)) return 400;
  out.method = line.substr(0, first);
  const std::string_view version = line.substr(second + 1);
  if (!is_token(out.method) || (version != "HTTP/1.1" && version != "HTTP/1.0")) return 400;
  out.http_1_0 = version == "HTTP/1.0";
  if (!known_method(out.method)) return 405;
  const std::string_view sent = line.substr(first + 1, second - first - 1);
  const auto after = without_origin(sent);
  if (!after) return 400;
  const std::string_view target = *after;
  if (target.size() > kMaxTargetBytes) return 414;
  const std::size_t query = std::min(target.find('?'), target.size());
  out.path = target.substr(0, query);
  out.query = target.substr(std::min(query + 1, target.size()));
  if (out.path.empty() && sent.size() > target.size()) out.path = "/";  // "http://host" and "http://host?query"
  return out.path.starts_with('/') ? 200 : 400;
}

int read_field(std::string_view line, RequestHead& out) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return 400;
  const std::string_view value = trimmed(line.substr(colon + 1), " \t");
  if (has_control(value)) return 400;
  const auto [slot, added] = out.headers.try_emplace(lower(line.substr(0, colon)), value);
  if (!added) slot->second.append(", ").append(value);
  return 200;
}

}  // namespace

std::expected<RequestHead, int> parse_request_head(std::string_view bytes) {
  RequestHead out;
  std::size_t n_lines = 0;
  while (true) {
    const std::size_t end = bytes.find(kLineEnd);
    if (end == std::string_view::npos) return std::unexpected(400);
    const std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(end + kLineEnd.size());
    if (line.empty()) break;
    if (n_lines > kMaxHeaderFields) return std::unexpected(431);
    const int status = n_lines++ == 0 ? read_request_line(line, out) : read_field(line, out);
    if (status != 200) return std::unexpected(status);
  }
  if (n_lines == 0 || !bytes.empty()) return std::unexpected(400);
  return out;
}

}  // namespace celslm
