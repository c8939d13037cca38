// Responses as bytes.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "net/http_types.h"

namespace celslm {

// code: of refusals that share their status with others: kCertificateRequired, kKeyLimit; else empty.
using ErrorMaker = std::function<HttpResponse(int status, std::string_view message, std::string_view code)>;
inline constexpr std::string_view kCertificateRequired = "certificate_required";  // 403
inline constexpr std::string_view kKeyLimit = "rate_limit_exceeded";              // 429

// {"error":{"message":…}}; 429 and 503 with Retry-After.
HttpResponse default_error(int status, std::string_view message, std::string_view code = {});
// For people, of the statuses that a server answers without a handler.
const char* message_for(int status);

enum class BodyFraming {
  kNone,      // 204 and 304
  kLength,    // content_length
  kChunked,   // length unknown
  kUntilEnd,  // the same for HTTP/1.0: the body ends with the connection
};

// The head, to its empty line. Of the response's headers those that would end a line are left out.
std::string response_head(const HttpResponse& response, BodyFraming framing, bool last);

// A complete response after which the connection is closed, for a peer whose request was not read to its end.
std::string closing_response(const HttpResponse& response);

// What stands before the bytes of a chunk; "\r\n" stands behind.
std::string chunk_head(std::size_t bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace celslm
