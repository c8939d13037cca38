// An HTTP/1.1 client (libcurl) behind an interface, so that everything above it can be tested with a fake.
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

// What a call moved: heads and bodies, without what TLS and TCP add.
struct HttpTraffic {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t total() const { return sent + received; }
};

struct HttpCall {
  std::string method = "GET";
  std::string path;  // with query, e.g. "/v1/models"
  std::map<std::string, std::string> headers;
  std::string body;
  std::string content_type = "application/json";
  // Sent as Range. The response is then either 206 with exactly these bytes, or has an error status (4xx, 5xx).
  std::optional<ByteRange> range;
  std::size_t max_body_bytes = 64U << 20;  // of the response; protects against a peer that never stops sending
  // How many the body is expected to have at most; 0: unknown. What a budget reserves before the call, no limit.
  std::uint64_t expected_body_bytes = 0;
  std::chrono::milliseconds timeout{30'000};  // for the complete call; 0: none
  std::chrono::milliseconds connect_timeout{3'000};
  // The call fails if less than this is transferred for stall_timeout, also before the first byte: raise the timeout, or
  // disable the check with 0 bytes/s, for calls on which the peer computes. Time spent in the sink does not count. A stall
  // is detected within twice stall_timeout.
  std::uint32_t stall_bytes_per_s = 1;
  std::chrono::milliseconds stall_timeout{5'000};
  // If set, receives the body of a 2xx response piece by piece, and HttpAnswer::body stays empty. Called on the thread of
  // call(); returning false cancels.
  std::function<bool(ByteView piece)> sink;
  // If set, receives what the call has moved so far, from time to time and once at its end, also if it fails. Called on the
  // thread of call(); returning false cancels.
  std::function<bool(const HttpTraffic& so_far)> watch;
  std::stop_token stop;  // cancels the call immediately
};

struct HttpAnswer {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  Bytes body;
  std::uint64_t bytes_received = 0;  // of the body
};

// Thread-safe: any number of concurrent calls. Connections are kept alive and reused.
class HttpClient {
 public:
  virtual ~HttpClient() = default;
  // Blocks. A response of any status is a value; redirects are not followed, since they could send the token elsewhere.
  // Proxies from the environment are not used. Errors, with the URL in the message: kUnavailable (cannot connect, connection
  // lost, stalled, timed out), kCancelled, kInvalid (a response that exceeds a limit, or a range with the wrong length or
  // status).
  virtual Result<HttpAnswer> call(const HttpCall& call) = 0;
  virtual std::string base_url() const = 0;
};

struct HttpClientOptions {
  std::string base_url;  // "http://host:port" or "https://…"
  std::string bearer_token;
  std::string ca_file;          // trusted certificates for https; empty: the system's
  bool token_in_clear = false;  // whether a token may be sent over http to another machine
  // PEM; shown to servers that ask for a certificate. Set both or neither.
  std::string certificate_file;
  std::string key_file;
};

// kInvalid for a malformed base_url, a token that would cross the network in clear, or a certificate without its key;
// kNotFound for a missing file. Does not connect yet.
Result<std::unique_ptr<HttpClient>> make_http_client(const HttpClientOptions& options);

}  // namespace celslm
