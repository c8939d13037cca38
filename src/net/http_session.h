// Serves the requests of one connection after another. cpp-httplib parses requests and writes responses; connections,
// deadlines, admission, routing and errors are implemented here.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "core/hash.h"
#include "core/log.h"
#include "net/connection.h"
#include "net/connection_table.h"
#include "net/http_server.h"
#include "net/router.h"

namespace celslm {

using ErrorMaker = std::function<HttpResponse(int status, std::string_view message)>;

// Shared by all sessions of a server. Constant while it runs, except for the table, which is thread-safe.
struct SessionContext {
  HttpServerOptions options;
  Router router;
  ErrorMaker make_error;
  Hash256 token_hash;  // of options.bearer_token: hashes have equal lengths, so they are compared in constant time
  ConnectionTable table;
  Log log;
};

// {"error":{"message":…}}; a 503 with Retry-After.
HttpResponse default_error(int status, std::string_view message);

// An error response as bytes, for a peer whose request was not parsed. The connection is closed after it.
std::string closing_response(const ErrorMaker& make_error, int status);

// One per thread.
class HttpSession {
 public:
  explicit HttpSession(SessionContext& context);
  ~HttpSession();
  // Serves requests until the peer closes the connection, an error occurs, or the connection is told to end. The connection
  // is registered in the table during the call.
  void serve(Connection& connection);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm
