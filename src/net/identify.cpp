#include "net/identify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <optional>

#include "net/access/client_header.h"
#include "net/access/key_file.h"
#include "net/access/key_ring.h"

namespace celslm {
namespace {

using std::chrono::steady_clock;

// The token in "Bearer TOKEN"; nullopt for other schemes.
std::optional<std::string_view> bearer(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return std::nullopt;
  const bool is_bearer = std::ranges::equal(kScheme, authorization.substr(0, kScheme.size()), {}, {},
                                            [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return is_bearer ? std::optional(authorization.substr(kScheme.size())) : std::nullopt;
}

HttpResponse unauthorized(const ServerSettings& settings, const Peer& peer, std::string_view why) {
  settings.refusals->refused(peer.address, why, steady_clock::now());
  HttpResponse out = settings.refusal(401);
  out.headers["WWW-Authenticate"] = "Bearer";
  return out;
}

HttpResponse over_limit(const ServerSettings& settings, const std::string& key, const KeyRefusal& refusal) {
  HttpResponse out = settings.make_error(429,
                                         fmt::format("the key '{}' may have {}, and has used them: try again in {} s", key,
                                                     refusal.limit, refusal.retry_after.count()),
                                         kKeyLimit);
  out.headers["Retry-After"] = std::to_string(refusal.retry_after.count());
  return out;
}

// What a key of the keys file allows.
std::expected<void, HttpResponse> use_key(const ServerSettings& settings, const KeyRing::Key& key, Caller& out) {
  out.key = key.entry.name;
  out.tenant = key.entry.tenant;
  out.all_tenants = false;
  out.is_operator = key.entry.is_operator;
  out.widest_policy = key.entry.widest_policy;
  auto use = KeyUse::begin(key.meter, key.entry.limits);
  if (!use) return std::unexpected(over_limit(settings, key.entry.name, use.error()));
  out.use = *std::move(use);
  return {};
}

// Requests may be told apart further, and a node may act for one tenant. A name that cannot be one is nobody's.
void act_for_others(const Headers& headers, Identified& out) {
  const auto client = headers.find(kClientHeader);
  if (client != headers.end() && is_key_name(client->second)) out.client += " for " + client->second;
  const auto tenant = headers.find(kTenantHeader);
  if (tenant == headers.end() || !out.caller.all_tenants || !is_key_name(tenant->second)) return;
  out.caller.tenant = tenant->second;
  out.caller.all_tenants = false;
}

}  // namespace

HttpResponse certificate_required(const ServerSettings& settings, const Peer& peer) {
  settings.refusals->refused(peer.address, "no client certificate", steady_clock::now());
  return settings.make_error(403, "this is for nodes only: show a client certificate of this server's authority",
                             kCertificateRequired);
}

std::expected<Identified, HttpResponse> identify(const ServerSettings& settings, const Peer& peer, const Headers& headers) {
  const HttpServerOptions& options = settings.options;
  Identified out{.caller = {.address = peer.address, .certificate = peer.certificate}, .client = "address " + peer.address};
  const bool takes_tokens = !options.bearer_token.empty() || options.keys;
  const auto authorization = headers.find("authorization");
  if (takes_tokens && authorization != headers.end()) {
    const auto token = bearer(authorization->second);
    if (!token) return std::unexpected(unauthorized(settings, peer, "an Authorization that is no bearer token"));
    const Hash256 hash = hash_of(*token);
    out.client = "key " + hash.hex();
    const auto key = options.keys ? options.keys->find(hash) : nullptr;
    if (!options.bearer_token.empty() && same_hash(hash, settings.token_hash)) {
      out.caller.key = "token";
    } else if (!key) {
      return std::unexpected(unauthorized(settings, peer, "a wrong bearer token"));
    } else if (auto used = use_key(settings, *key, out.caller); !used) {
      return std::unexpected(std::move(used).error());
    }
  } else if (!peer.certificate.empty()) {
    out.client = "certificate " + peer.certificate;
  } else if (takes_tokens) {
    return std::unexpected(unauthorized(settings, peer, "no bearer token"));
  } else if (!options.client_authority_file.empty()) {
    return std::unexpected(certificate_required(settings, peer));
  }
  act_for_others(headers, out);
  return out;
}

}  // namespace celslm
