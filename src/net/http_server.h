// An HTTP/1.1 server behind an interface: handlers see HttpRequest and HttpResponse, never the library's types.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/log.h"
#include "core/memory_ledger.h"
#include "core/result.h"
#include "net/http_types.h"

namespace celslm {

class KeyRing;  // net/access/key_ring.h

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;                                     // 0: any free port
  std::size_t max_body_bytes = 8U << 20;            // of a request
  std::chrono::milliseconds read_timeout{10'000};   // for a request head, and for a body beyond kMinBodyBytesPerS
  std::chrono::milliseconds write_timeout{30'000};  // without progress
  // Threads that run handlers and the callbacks of pushed bodies. Neither waiting connections nor pushed or deferred
  // responses occupy one.
  int n_threads = 16;
  // Requests that wait for a thread; further ones get 429. Requests to `open_paths` have threads and a queue of their own,
  // so that /health responds under full load.
  std::size_t max_queued = 4096;
  // Connections, those without a request included; for further ones the longest idle are ended, and if there are none they
  // get 429. 0: as many as the process may open files (net/open_files.h), less kReservedFiles.
  std::size_t max_connections = 0;
  // What the bodies of all requests may take beyond kSmallBodyBytes each; requests with larger ones get 429 meanwhile.
  std::size_t body_memory_bytes = 64U << 20;
  std::shared_ptr<MemoryLedger> memory;  // that these bodies are counted in, too; null: none
  // If not empty, requests without it get 401 (except to `open_paths`). Letters, digits and -._~+/= (RFC 6750).
  // Whoever has it counts as a node.
  std::string bearer_token;
  // Keys of clients, each with what it may do; others than these and the token get 401. null: none.
  std::shared_ptr<KeyRing> keys;
  std::vector<std::string> open_paths = {"/health"};
  // PEM; if set, a client that shows a certificate of this authority needs no token, and the paths below `node_paths` are
  // for such clients only (403 for all others).
  std::string client_authority_file;
  std::vector<std::string> node_paths = {"/v1/packs/"};
  // Origins of web pages that may use this server from a browser, as check_origins() (net/cors.h) takes them. A page of any
  // other origin may neither read an answer nor ask for anything but GET and HEAD (403). Where `host` is a loopback address
  // and nobody is asked who he is, requests by another's name (CrossOrigin::names_another_host) get 403, too.
  std::vector<std::string> allowed_origins;
  std::string tls_certificate_file;  // PEM; set both or neither
  std::string tls_key_file;
};

// Whether clients must show who they are: by a token, a key or a certificate.
inline bool asks_who(const HttpServerOptions& options) {
  return !options.bearer_token.empty() || options.keys || !options.client_authority_file.empty();
}

// One thread does all input and output, without blocking; handlers run on a bounded number of others and may block shortly.
// route() and on_error() must be called before start(). A handler's request stays valid until what it returned has been
// called (HttpResponse::stream, pushed, deferred). If a handler throws, the client gets 500.
class HttpServer {
 public:
  // kInvalid, naming the option or the file, for invalid options or an unusable certificate; kMismatch if the key does not
  // belong to the certificate.
  static Result<std::unique_ptr<HttpServer>> create(const HttpServerOptions& options, Log log);
  virtual ~HttpServer() = default;  // stops

  // pattern: "/v1/packs/:context/:model"; ":name" matches one path segment.
  virtual void route(std::string_view method, std::string_view pattern, HttpHandler handler) = 0;
  // Sets the format of error responses; default: {"error":{"message":…}}.
  // code: response_text.h; mostly empty.
  virtual void on_error(std::function<HttpResponse(int status, std::string_view message, std::string_view code)> make) = 0;

  // Binds the port and serves on threads of its own. kUnavailable, with the remedy, if the port cannot be bound; kOverloaded
  // if the threads cannot be started.
  virtual Status start() = 0;
  virtual int port() const = 0;
  virtual std::string url() const = 0;  // "http://127.0.0.1:8080"
  // Stops accepting, gives running handlers and their streams up to `grace` to end, then closes their connections (their
  // `disconnected`, sinks and bodies report it) and waits for the handlers. Idempotent. Must not be called from a handler.
  virtual void stop(std::chrono::milliseconds grace) = 0;
};

}  // namespace celslm
