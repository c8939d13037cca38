// An HTTP/1.1 server behind an interface: handlers see HttpRequest and HttpResponse, never the library's types.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/log.h"
#include "core/result.h"
#include "net/http_types.h"

namespace celslm {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;                                     // 0: any free port
  std::size_t max_body_bytes = 8U << 20;            // of a request
  std::chrono::milliseconds read_timeout{10'000};   // for a request head, and for a body beyond kMinBodyBytesPerS
  std::chrono::milliseconds write_timeout{30'000};  // without progress
  // Handlers that may run concurrently. A stream occupies one until it ends, so allow for the longest queue of streams that
  // the machine should carry, plus the short requests beside them. Further requests get 503 immediately, except those to
  // `open_paths`: kReserveThreads are reserved for these, so that /health responds under full load. An idle thread costs
  // about 50 KB.
  int n_threads = 32;
  // If not empty, requests without it get 401 (except to `open_paths`). Letters, digits and -._~+/= (RFC 6750).
  std::string bearer_token;
  std::vector<std::string> open_paths = {"/health"};
  // Origins of web pages that may use this server from a browser, as check_origins() (net/cors.h) takes them. A page of any
  // other origin may neither read an answer nor ask for anything but GET and HEAD (403).
  std::vector<std::string> allowed_origins;
  std::string tls_certificate_file;  // PEM; set both or neither
  std::string tls_key_file;
};

// route() and on_error() must be called before start(). Handlers run concurrently on the server's threads. A handler's
// request stays valid until its stream has ended. If a handler throws, the client gets 500.
class HttpServer {
 public:
  // kInvalid, naming the option or the file, for invalid options or an unusable certificate; kMismatch if the key does not
  // belong to the certificate.
  static Result<std::unique_ptr<HttpServer>> create(const HttpServerOptions& options, Log log);
  virtual ~HttpServer() = default;  // stops

  // pattern: "/v1/packs/:context/:model"; ":name" matches one path segment.
  virtual void route(std::string_view method, std::string_view pattern, HttpHandler handler) = 0;
  // Sets the format of error responses; default: {"error":{"message":…}}.
  virtual void on_error(std::function<HttpResponse(int status, std::string_view message)> make) = 0;

  // Binds the port and serves on threads of its own. kUnavailable, with the remedy, if the port cannot be bound; kOverloaded
  // if the threads cannot be started.
  virtual Status start() = 0;
  virtual int port() const = 0;
  virtual std::string url() const = 0;  // "http://127.0.0.1:8080"
  // Stops accepting, gives running handlers and their streams up to `grace` to end, then closes their connections (their
  // `disconnected` and sinks report it) and waits for them. Idempotent. Must not be called from a handler.
  virtual void stop(std::chrono::milliseconds grace) = 0;
};

}  // namespace celslm
