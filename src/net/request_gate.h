// What is decided of a request before its body is read: framing, origin, who asks, route.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "core/hash.h"
#include "core/log.h"
#include "net/access/refusal_log.h"
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
  std::shared_ptr<RefusalLog> refusals;
  CrossOrigin cross_origin;
  Log log;

  HttpResponse refusal(int status) const { return make_error(status, message_for(status), {}); }
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

// The other end of a connection.
struct Peer {
  std::string address;      // numeric
  std::string certificate;  // the name in the certificate that it showed; empty: none
};

std::variant<Admitted, Refused> admit(const ServerSettings& settings, RequestHead head, const Peer& peer);

}  // namespace celslm
