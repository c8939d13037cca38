// The head of an HTTP/1.1 request: from bytes to the parts that the server uses (RFC 9112, sections 2 to 5).
#pragma once

#include <expected>
#include <map>
#include <string>
#include <string_view>

namespace celslm {

struct RequestHead {
  std::string method;  // one of those that HTTP defines, except TRACE and CONNECT
  // Not decoded. Of "http://host/path?query" (absolute-form, as clients of a proxy send it) only what follows the host.
  std::string path;
  std::string query;  // without "?"
  bool http_1_0 = false;
  std::map<std::string, std::string> headers;  // names in lower case; of equal names the values, joined by ", "
};

// bytes: from the request line to the empty line, both included. An error is the status to refuse the request with: 400,
// 405, 414 or 431. Line ends are CRLF only, and nothing is repaired: what a proxy may read differently is refused.
std::expected<RequestHead, int> parse_request_head(std::string_view bytes);

}  // namespace celslm
