// Serves the requests of one connection after another. cpp-httplib reads requests and writes responses; connections,
// deadlines, admission, routing and errors are ours.
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

// What all sessions of a server share; constant while it runs, except for the table, which is thread-safe.
struct SessionContext {
  HttpServerOptions options;
  Router router;
  ErrorMaker make_error;
  Hash256 token_hash;  // of options.bearer_token: hashes compare in constant time, whatever the lengths
  ConnectionTable table;
  Log log;
};

// {"error":{"message":…}}; a 503 with Retry-After.
HttpResponse default_error(int status, std::string_view message);

// The same refusal as bytes, for a peer whose request was not parsed: the connection ends with it.
std::string closing_answer(const ErrorMaker& make_error, int status);

// One per thread.
class HttpSession {
 public:
  explicit HttpSession(SessionContext& context);
  ~HttpSession();
  // Until the peer leaves, errs, or is asked to leave. The connection is registered in the table meanwhile.
  void serve(Connection& connection);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace celslm
