#include "net/request_gate.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <ranges>
#include <utility>

#include "core/text.h"
#include "net/identify.h"

namespace celslm {
namespace {

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool all_digits(std::string_view text) {
  return !text.empty() && text.size() <= 18 && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

bool asks_to_close(const Headers& headers) {
  const auto it = headers.find("connection");
  if (it == headers.end()) return false;
  for (const auto option : std::views::split(lower(it->second), ',')) {
    if (trimmed(std::string_view(option), " \t") == "close") return true;
  }
  return false;
}

// Ambiguous framing allows request smuggling past a proxy: only the unambiguous forms are accepted.
int check_framing(const Headers& headers, std::size_t max_body_bytes) {
  const auto length = headers.find("content-length");
  const auto encoding = headers.find("transfer-encoding");
  if (length != headers.end() && encoding != headers.end()) return 400;
  if (encoding != headers.end() && lower(encoding->second) != "chunked") return 501;
  if (length != headers.end() && !all_digits(length->second)) return 400;
  if (length != headers.end() && std::stoull(length->second) > max_body_bytes) return 413;
  if (const auto it = headers.find("content-encoding"); it != headers.end() && lower(it->second) != "identity") return 415;
  return 200;
}

// Decides one request; the parts of its head that are not the request's.
struct Gate {
  const ServerSettings& settings;
  const Peer& peer;
  Admitted& out;
  std::string raw_path;
  std::string raw_query;
  std::string allow{};
  std::optional<HttpResponse> special{};  // a refusal that says more than its status

  int check() {
    const HttpRequest& request = out.request;
    if (const int status = check_framing(request.headers, settings.options.max_body_bytes); status != 200) return status;
    if (settings.cross_origin.names_another_host(request.headers)) return 403;
    if (CrossOrigin::is_preflight(request.method, request.headers)) return 204;
    if (settings.cross_origin.refuses(request.method, request.headers)) return 403;
    out.is_open = std::ranges::contains(settings.options.open_paths, raw_path);
    if (out.is_open) return route();
    auto identified = identify(settings, peer, request.headers);
    if (!identified) return refuse(std::move(identified).error());
    out.request.caller = std::move(identified->caller);
    out.request.client = std::move(identified->client);
    return route();
  }

  int refuse(HttpResponse response) {
    special = std::move(response);
    return special->status;
  }

  int route() {
    HttpRequest& request = out.request;
    auto path = decode_percent(raw_path, false);
    auto query = parse_query(raw_query);
    if (!path || !query) return 400;
    Router::Match match = settings.router.find(request.method, raw_path);
    if (match.for_nodes && !settings.options.client_authority_file.empty() && peer.certificate.empty())
      return refuse(certificate_required(settings, peer));
    request.path = *std::move(path);
    request.parameters = std::move(match.parameters);
    request.parameters.merge(*query);  // of equal names the path's is kept
    out.handler = match.handler;
    allow = match.allow;
    return match.status;
  }

  HttpResponse refusal(int status) const {
    if (special) return *special;
    if (status == 204) {
      Headers answer = settings.cross_origin.preflight_headers(out.request.headers);
      if (!answer.empty()) return {.status = 204, .headers = std::move(answer)};
      status = 403;
    }
    HttpResponse response = settings.refusal(status);
    if (status == 405) response.headers["Allow"] = allow;
    return response;
  }
};

bool has_body(const Headers& headers) {
  const auto length = headers.find("content-length");
  return headers.contains("transfer-encoding") || (length != headers.end() && length->second != "0");
}

}  // namespace

std::variant<Admitted, Refused> admit(const ServerSettings& settings, RequestHead head, const Peer& peer) {
  Admitted out{.http_1_0 = head.http_1_0, .asks_to_close = asks_to_close(head.headers)};
  HttpRequest& request = out.request;
  request.method = std::move(head.method);
  request.headers = std::move(head.headers);
  // A condition that never holds: no answer of this server has a validator (ETag, Last-Modified) to compare with.
  if (request.headers.contains("if-range")) request.headers.erase("range");
  request.client = "address " + peer.address;
  out.expects_continue = !out.http_1_0 && lower(request.header("expect")) == "100-continue";
  Gate gate{
      .settings = settings, .peer = peer, .out = out, .raw_path = std::move(head.path), .raw_query = std::move(head.query)};
  const int status = gate.check();
  if (status == 200) return out;
  const bool body_follows = has_body(request.headers);
  return Refused{.response = gate.refusal(status),
                 .request = std::move(request),
                 .http_1_0 = out.http_1_0,
                 .asks_to_close = out.asks_to_close,
                 .body_follows = body_follows};
}

}  // namespace celslm
