#include "fleet/store/valkey_address.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <utility>

namespace celslm {
namespace {

constexpr std::size_t kMaxHostBytes = 253;  // of a name in DNS
constexpr int kMaxDatabase = 1 << 20;
constexpr int kSentinelPort = 26379;

std::optional<int> number(std::string_view text, int least, int most) {
  int out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  const bool fine = error == std::errc() && end == text.data() + text.size() && out >= least && out <= most;
  return fine ? std::optional(out) : std::nullopt;
}

bool is_host(std::string_view host, bool bracketed) {
  const auto allowed = [bracketed](unsigned char c) {
    if (bracketed) return std::isxdigit(c) != 0 || c == ':' || c == '.';
    return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
  };
  return !host.empty() && host.size() <= kMaxHostBytes && std::ranges::all_of(host, allowed);
}

std::unexpected<Error> malformed(std::string_view what) {
  return fail(ErrorKind::kInvalid,
              "the directory's URL {}: expected valkey://HOST[:PORT][/DB] or valkey-sentinel://HOST[:PORT],.../NAME[/DB]; "
              "valkeys:// and valkeys-sentinel:// for TLS",
              what);
}

// "host", "host:port" or "[ipv6]:port"
Result<HostAndPort> parse_authority(std::string_view text, int default_port) {
  const bool bracketed = text.starts_with('[');
  const std::size_t end = bracketed ? text.find(']') : text.find(':');
  if (bracketed && end == std::string_view::npos) return malformed("has no ']'");
  const std::string_view host = bracketed ? text.substr(1, end - 1) : text.substr(0, end);
  if (!is_host(host, bracketed)) return malformed("has no host");
  HostAndPort out{.host = std::string(host), .port = default_port};
  const std::string_view rest = text.substr(std::min(text.size(), host.size() + (bracketed ? 2 : 0)));
  if (rest.empty()) return out;
  const auto port = rest.starts_with(':') ? number(rest.substr(1), 1, 65535) : std::nullopt;
  if (!port) return malformed("has no port from 1 to 65535 behind its host");
  out.port = *port;
  return out;
}

// What is before the first '/', which `text` then begins behind.
std::string_view next_part(std::string_view& text) {
  const std::size_t slash = text.find('/');
  const std::string_view out = text.substr(0, slash);
  text = slash == std::string_view::npos ? std::string_view() : text.substr(slash + 1);
  return out;
}

// "host:port,host:port" and "name"
Status parse_sentinels(std::string_view hosts, std::string_view name, ValkeyAddress& out) {
  for (;;) {
    const std::size_t comma = hosts.find(',');
    if (out.sentinels.size() >= kMaxSentinels) return malformed("has too many sentinels");
    CELSLM_TRY(out.sentinels.emplace_back(), parse_authority(hosts.substr(0, comma), kSentinelPort));
    if (comma == std::string_view::npos) break;
    hosts.remove_prefix(comma + 1);
  }
  if (!is_host(name, false)) return malformed("has no name of a server behind its sentinels");
  out.name = name;
  return {};
}

}  // namespace

std::string ValkeyAddress::text() const {
  if (!sentinels.empty()) return fmt::format("{}-sentinel://.../{}/{}", tls ? "valkeys" : "valkey", name, database);
  const bool v6 = host.contains(':');
  return fmt::format("{}://{}{}{}:{}/{}", tls ? "valkeys" : "valkey", v6 ? "[" : "", host, v6 ? "]" : "", port, database);
}

Result<ValkeyAddress> parse_valkey_url(std::string_view url) {
  const std::size_t colon = url.find("://");
  const std::string_view scheme = url.substr(0, colon == std::string_view::npos ? 0 : colon);
  const bool by_sentinels = scheme.ends_with("-sentinel");
  ValkeyAddress out;
  out.tls = scheme == "valkeys" || scheme == "rediss" || scheme == "valkeys-sentinel";
  if (!out.tls && scheme != "valkey" && scheme != "redis" && scheme != "valkey-sentinel")
    return malformed("has no known scheme");
  url.remove_prefix(colon + 3);
  if (url.contains('@')) return malformed("has a user or a password, which others could read (--directory-password-file)");
  const std::string_view hosts = next_part(url);
  if (by_sentinels) {
    CELSLM_CHECK_OK(parse_sentinels(hosts, next_part(url), out));
  } else {
    CELSLM_TRY(HostAndPort at, parse_authority(hosts, out.port));
    out.host = std::move(at.host);
    out.port = at.port;
  }
  if (url.empty()) return out;
  const auto chosen = number(url, 0, kMaxDatabase);
  if (!chosen) return malformed("has something else than a number of a database behind its last '/'");
  out.database = *chosen;
  return out;
}

}  // namespace celslm
