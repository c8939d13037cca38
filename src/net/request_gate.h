// What is decided of a request before its body is read: framing, origin, token, route.
#pragma once

#include <functional>
#include <string>
#include <variant>

#include "core/hash.h"
#include "core/log.h"
#include "net/cors.h"
#include "net/http_server.h"
#include "net/request_head.h"
#include "net/response_text.h"
#include "net/router.h"

namespace celslm {

// Of a server; constant while it runs.
struct ServerSettings {
  HttpServerOptions options;
  Router router;
  ErrorMaker make_error = default_error;
  Hash256 token_hash;  // of options.bearer_token: hashes have equal lengths, so they are compared in constant time
  CrossOrigin cross_origin;
  Log log;
};

struct Admitted {
  HttpRequest request;  // without body, and without its functions
  const HttpHandler* handler = nullptr;
  bool is_open = false;  // of HttpServerOptions::open_paths
  bool http_1_0 = false;
  bool asks_to_close = false;
  bool expects_continue = false;
};

// A response given instead of a handler's. The request's headers are kept for what else the response needs.
struct Refused {
  HttpResponse response;
  HttpRequest request;
  bool http_1_0 = false;
  bool asks_to_close = false;
  bool body_follows = false;  // which will not be read: the connection cannot be used any further
};

// address: of the peer.
std::variant<Admitted, Refused> admit(const ServerSettings& settings, RequestHead head, const std::string& address);

}  // namespace celslm
