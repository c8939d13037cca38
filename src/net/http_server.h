// An HTTP/1.1 server behind an interface of our own: handlers see bytes and names, never the library's types.
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
  int port = 0;                                    // 0: any free one
  std::size_t max_body_bytes = 8U << 20;           // a body that would fill memory
  std::chrono::milliseconds read_timeout{10'000};  // a client that sends one byte a minute holds a thread no longer
  std::chrono::milliseconds write_timeout{30'000};
  // Handlers that run at once; a long stream holds one all its life. So: the longest queue of streams the machine is meant
  // to carry, plus the short requests beside them. Beyond it requests get 503 at once, except those of `open_paths`:
  // a few threads are kept for them, so that /health answers under full load. An idle thread costs some 50 KB.
  int n_threads = 32;
  // If set, requests without it get 401 (paths in `open_paths` excepted). Letters, digits and -._~+/= (RFC 6750).
  std::string bearer_token;
  std::vector<std::string> open_paths = {"/health"};
  std::string tls_certificate_file;  // PEM; both or none
  std::string tls_key_file;
};

// Routes are added before start(); handlers run on the server's threads, several at once. The request a handler is given
// lives until its stream has ended. A handler that throws answers 500.
class HttpServer {
 public:
  // kInvalid for options that make no sense, or a certificate that cannot be used (named).
  static Result<std::unique_ptr<HttpServer>> create(const HttpServerOptions& options, Log log);
  virtual ~HttpServer() = default;  // stops

  // pattern: "/v1/packs/:context/:model"; ":name" matches one path segment.
  virtual void route(std::string_view method, std::string_view pattern, HttpHandler handler) = 0;
  // What errors look like; default: {"error":{"message":…}}.
  virtual void on_error(std::function<HttpResponse(int status, std::string_view message)> make) = 0;

  // Binds and serves on its own threads. kUnavailable "port N is in use" etc.
  virtual Status start() = 0;
  virtual int port() const = 0;
  virtual std::string url() const = 0;  // "http://127.0.0.1:8080"
  // Stops accepting, lets running handlers and their streams end for up to `grace`, then cuts their connections (their
  // `disconnected` turns true, their sinks false) and waits for them. Idempotent; not from a handler.
  virtual void stop(std::chrono::milliseconds grace) = 0;
};

}  // namespace celslm
