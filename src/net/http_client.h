// An HTTP/1.1 client behind an interface of our own, so that everything above it is tested with a fake.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "core/bytes.h"
#include "core/result.h"
#include "net/http_types.h"

namespace celslm {

struct HttpCall {
  std::string method = "GET";
  std::string path;  // with query, e.g. "/v1/models"
  std::map<std::string, std::string> headers;
  std::string body;
  std::string content_type = "application/json";
  // Sent as Range. The answer is then 206, of this place and exactly this long, or an error status (4xx, 5xx).
  std::optional<ByteRange> range;
  std::size_t max_body_bytes = 64U << 20;     // a peer that never stops sending
  std::chrono::milliseconds timeout{30'000};  // for the whole call; 0: none
  std::chrono::milliseconds connect_timeout{3'000};
  // Less than this for this long counts as dead, also while waiting for the first byte: raise it, or turn it off with
  // 0 bytes/s, for calls the peer computes on. Time in the sink does not count. Noticed within twice stall_timeout.
  std::uint32_t stall_bytes_per_s = 1;
  std::chrono::milliseconds stall_timeout{5'000};
  // If set, body pieces of a 2xx answer go here as they arrive and HttpAnswer::body stays empty; false cancels.
  std::function<bool(ByteView piece)> sink;
  std::stop_token stop;  // cancels promptly
};

struct HttpAnswer {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  Bytes body;
  std::uint64_t bytes_received = 0;  // of the body
};

// Thread-safe: any number of calls at once. Connections are kept alive and re-used.
class HttpClient {
 public:
  virtual ~HttpClient() = default;
  // An answer of any status is a value, redirects too (none is followed: it would carry the token elsewhere, or loop).
  // Proxies named in the environment are not used. Errors: kUnavailable (no connection, broken, stalled, timed out),
  // kCancelled, kInvalid (an answer that breaks a limit, or a range answered with the wrong length or status). The message
  // names the URL.
  virtual Result<HttpAnswer> call(const HttpCall& call) = 0;
  virtual std::string base_url() const = 0;
};

struct HttpClientOptions {
  std::string base_url;  // "http://host:port" or "https://…"
  std::string bearer_token;
  std::string ca_file;  // for https; empty: the system's
};

Result<std::unique_ptr<HttpClient>> make_http_client(const HttpClientOptions& options);

}  // namespace celslm
