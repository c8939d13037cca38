// Who asks: the token, key or certificate of a request, and what they allow.
#pragma once

#include <expected>
#include <string>

#include "net/cors.h"
#include "net/request_gate.h"

namespace celslm {

struct Identified {
  Caller caller;
  std::string client;  // HttpRequest::client
};

// The caller; its key's limits count the request, while the Caller lives. Or the refusal: 401 for missing or wrong
// credentials, 403 where only a certificate would do, 429 for a key that has used what it may. Refusals are in the log.
std::expected<Identified, HttpResponse> identify(const ServerSettings& settings, const Peer& peer, const Headers& headers);

// For a caller without a certificate on a path that is for nodes only.
HttpResponse certificate_required(const ServerSettings& settings, const Peer& peer);

}  // namespace celslm
