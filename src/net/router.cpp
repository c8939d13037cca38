#include "net/router.h"

#include <cstddef>
#include <optional>

#include "net/http_limits.h"

namespace celslm {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The segments after the leading "/"; nullopt for a path without one, or with too many segments.
std::optional<std::vector<std::string_view>> split(std::string_view path) {
  if (!path.starts_with('/')) return std::nullopt;
  std::vector<std::string_view> out;
  while (!path.empty()) {
    path.remove_prefix(1);
    if (out.size() == static_cast<std::size_t>(kMaxPathSegments)) return std::nullopt;
    const std::size_t end = std::min(path.find('/'), path.size());
    out.push_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return out;
}

bool matches(const std::vector<std::string>& pattern, const std::vector<std::string>& path,
             std::map<std::string, std::string>& parameters) {
  if (pattern.size() != path.size()) return false;
  parameters.clear();
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (pattern[i].starts_with(':')) {
      if (path[i].empty()) return false;
      parameters[pattern[i].substr(1)] = path[i];
    } else if (pattern[i] != path[i]) {
      return false;
    }
  }
  return true;
}

}  // namespace

Result<std::string> decode_percent(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return fail(ErrorKind::kInvalid, "malformed percent escape at byte {}", i);
      c = static_cast<char>(high * 16 + low);
      i += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7F) return fail(ErrorKind::kInvalid, "control character in a URL");
    out.push_back(c);
  }
  return out;
}

Result<std::map<std::string, std::string>> parse_query(std::string_view query) {
  std::map<std::string, std::string> out;
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view item = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (item.empty()) continue;
    const std::size_t equals = std::min(item.find('='), item.size());
    CELSLM_TRY(std::string name, decode_percent(item.substr(0, equals), true));
    CELSLM_TRY(std::string value, decode_percent(item.substr(std::min(equals + 1, item.size())), true));
    out.try_emplace(std::move(name), std::move(value));
  }
  return out;
}

void Router::add(std::string_view method, std::string_view pattern, HttpHandler handler, bool for_nodes) {
  Route route{.method = std::string(method), .segments = {}, .handler = std::move(handler), .for_nodes = for_nodes};
  if (const auto segments = split(pattern)) route.segments.assign(segments->begin(), segments->end());
  routes_.push_back(std::move(route));
}

Router::Match Router::find(std::string_view method, std::string_view path) const {
  Match out;
  const auto raw = split(path);
  if (!raw) {
    out.status = 400;
    return out;
  }
  std::vector<std::string> segments;
  for (const std::string_view segment : *raw) {
    auto decoded = decode_percent(segment, false);
    if (!decoded) {
      out.status = 400;
      return out;
    }
    segments.push_back(*std::move(decoded));
  }
  // A HEAD request is a GET whose body is not sent.
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  for (const Route& route : routes_) {
    if (!matches(route.segments, segments, out.parameters)) continue;
    if (route.method == wanted) {
      out.handler = &route.handler;
      out.for_nodes = route.for_nodes;
      out.status = 200;
      return out;
    }
    out.allow += (out.allow.empty() ? "" : ", ") + route.method;
    out.status = 405;
  }
  return out;
}

}  // namespace celslm
