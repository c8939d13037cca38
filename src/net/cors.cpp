#include "net/cors.h"

#include <algorithm>
#include <cctype>

#include "net/address.h"

namespace celslm {
namespace {

constexpr std::string_view kSeconds = "600";  // how long a browser may remember the answer to its question

std::string value_of(const Headers& headers, const char* name) {
  const auto it = headers.find(name);
  return it == headers.end() ? std::string() : it->second;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// Without the ports that browsers leave out.
std::string_view without_default_port(std::string_view authority) {
  for (const std::string_view port : {":80", ":443"}) {
    if (authority.ends_with(port)) authority.remove_suffix(port.size());
  }
  return authority;
}

std::string_view without_port(std::string_view authority) {
  const std::size_t colon = authority.rfind(':');
  return colon == std::string_view::npos || authority.ends_with(']') ? authority : authority.substr(0, colon);
}

// The scheme does not count: behind a proxy that ends TLS it differs.
bool same_authority(std::string_view origin, std::string_view host) {
  const std::size_t mark = origin.find("://");
  return mark != std::string_view::npos && without_default_port(origin.substr(mark + 3)) == without_default_port(host);
}

// A page cannot set either header. Sec-Fetch-Site also tells where a proxy has changed Host.
bool is_cross_origin(const Headers& request) {
  const std::string origin = lower(value_of(request, "origin"));
  if (origin.empty() || value_of(request, "sec-fetch-site") == "same-origin") return false;
  return !same_authority(origin, lower(value_of(request, "host")));
}

bool is_origin(std::string_view text) {
  const std::size_t mark = text.find("://");
  if (mark == 0 || mark == std::string_view::npos) return false;
  const std::string_view authority = text.substr(mark + 3);
  return !authority.empty() && std::ranges::all_of(text, [](unsigned char c) { return c > 0x20 && c < 0x7F; }) &&
         authority.find_first_of("/?#@*") == std::string_view::npos;
}

}  // namespace

Status check_origins(const std::vector<std::string>& origins) {
  for (const std::string& origin : origins) {
    if (origin == "*" || origin == "null" || is_origin(origin)) continue;
    return fail(ErrorKind::kInvalid, "'{}' is not an origin: expected scheme://host[:port] without a path, * or null",
                origin);
  }
  return {};
}

CrossOrigin::CrossOrigin(std::vector<std::string> allowed, bool loopback)
    : allowed_(std::move(allowed)), loopback_(loopback) {
  for (std::string& origin : allowed_) origin = lower(std::move(origin));
}

bool CrossOrigin::allows(std::string_view origin) const {
  return std::ranges::contains(allowed_, "*") || std::ranges::contains(allowed_, origin);
}

bool CrossOrigin::names_another_host(const Headers& request) const {
  const std::string host = lower(value_of(request, "host"));
  if (!loopback_ || host.empty() || std::ranges::contains(allowed_, "*")) return false;
  const std::string_view name = without_port(host);
  if (!name.contains('.') || is_address(name) || name.ends_with(".localhost")) return false;
  return std::ranges::none_of(allowed_, [&](const std::string& origin) { return same_authority(origin, host); });
}

bool CrossOrigin::refuses(std::string_view method, const Headers& request) const {
  const bool reads = method == "GET" || method == "HEAD" || method == "OPTIONS";
  return !reads && is_cross_origin(request) && !allows(lower(value_of(request, "origin")));
}

bool CrossOrigin::is_preflight(std::string_view method, const Headers& request) {
  return method == "OPTIONS" && request.contains("origin") && request.contains("access-control-request-method");
}

Headers CrossOrigin::answer_headers(const Headers& request) const {
  const std::string origin = value_of(request, "origin");
  if (allowed_.empty()) return {};
  if (std::ranges::contains(allowed_, "*")) {
    return {{"Access-Control-Allow-Origin", "*"}, {"Access-Control-Expose-Headers", "*"}};
  }
  if (origin.empty() || !allows(lower(origin))) return {{"Vary", "Origin"}};  // a cache must not give this to others
  return {{"Access-Control-Allow-Origin", origin}, {"Access-Control-Expose-Headers", "*"}, {"Vary", "Origin"}};
}

Headers CrossOrigin::preflight_headers(const Headers& request) const {
  Headers out = answer_headers(request);
  if (!out.contains("Access-Control-Allow-Origin")) return {};
  out["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE, OPTIONS";
  out["Access-Control-Max-Age"] = kSeconds;
  // Named one by one: "*" does not cover Authorization.
  if (const std::string wanted = value_of(request, "access-control-request-headers"); !wanted.empty())
    out["Access-Control-Allow-Headers"] = wanted;
  return out;
}

}  // namespace celslm
