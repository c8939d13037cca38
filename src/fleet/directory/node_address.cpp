#include "fleet/directory/node_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <string>

#include "core/printable.h"

namespace celslm {
namespace {

std::unexpected<Error> refused(std::string_view url, std::string_view why) {
  return fail(ErrorKind::kInvalid, "a node's address '{}' {}: expected http://HOST:PORT or https://HOST:PORT",
              printable(url, 80), why);
}

bool is_reachable(const in_addr& address) {
  const std::uint32_t bits = ntohl(address.s_addr);
  const std::uint32_t first = bits >> 24;
  return first != 0 && first < 224 && (bits >> 16) != 0xA9FE;  // not 0.0.0.0/8, multicast and above, 169.254.0.0/16
}

bool is_reachable(const in6_addr& address) {
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    in_addr v4{};
    std::copy_n(address.s6_addr + 12, 4, reinterpret_cast<std::uint8_t*>(&v4.s_addr));
    return is_reachable(v4);
  }
  return !IN6_IS_ADDR_UNSPECIFIED(&address) && !IN6_IS_ADDR_MULTICAST(&address) && !IN6_IS_ADDR_LINKLOCAL(&address);
}

bool is_v6(const std::string& host) {
  in6_addr address{};
  return ::inet_pton(AF_INET6, host.c_str(), &address) == 1 && is_reachable(address);
}

// A name must have a letter: what resolvers take for an address in another notation ("0x7f.1", "2130706433") has a way
// around the checks above.
bool is_v4_or_name(const std::string& host) {
  in_addr address{};
  if (::inet_pton(AF_INET, host.c_str(), &address) == 1) return is_reachable(address);
  const auto allowed = [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_'; };
  const std::size_t dot = host.rfind('.');
  const char last = host.empty() ? '0' : host[dot == std::string::npos ? 0 : std::min(dot + 1, host.size() - 1)];
  return !host.empty() && std::ranges::all_of(host, allowed) && std::isalpha(static_cast<unsigned char>(last)) != 0;
}

bool is_port(std::string_view text) {
  int port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

}  // namespace

Status check_node_url(std::string_view url) {
  if (url.size() > kMaxNodeUrlBytes) return refused(url, "is too long");
  std::string_view rest = url;
  if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
  } else {
    return refused(url, "is no URL of HTTP");
  }
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || !is_port(rest.substr(colon + 1))) return refused(url, "has no port at its end");
  const std::string host(rest.substr(0, colon));
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  const bool fine = bracketed ? is_v6(host.substr(1, host.size() - 2)) : is_v4_or_name(host);
  return fine ? Status() : refused(url, "has no host that a node can have");
}

}  // namespace celslm
