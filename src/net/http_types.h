// HTTP messages as both ends and the handlers between them see them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace celslm {

struct HttpRequest {
  std::string method;
  std::string path;                               // decoded, without the query
  std::map<std::string, std::string> parameters;  // of the path pattern (":id") and the query; the path wins
  std::map<std::string, std::string> headers;     // names in lower case
  std::string body;
  // True once the client has gone; cheap, callable from any thread while the handler or its stream runs.
  std::function<bool()> disconnected;

  // Empty where there is none. header(): the name in lower case.
  std::string parameter(const std::string& name) const { return value_of(parameters, name); }
  std::string header(const std::string& name) const { return value_of(headers, name); }

 private:
  static std::string value_of(const std::map<std::string, std::string>& in, const std::string& name) {
    const auto it = in.find(name);
    return it == in.end() ? std::string() : it->second;
  }
};

// Writes pieces of a streamed body; false when the client has gone (stop then).
using BodySink = std::function<bool(std::string_view piece)>;

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::map<std::string, std::string> headers;
  std::string body;
  // If set, the body is produced by this call after the headers are sent (chunked, or with content_length if known).
  // Returning false, or throwing, cuts the connection so that the client sees a broken body, not a short one.
  std::function<bool(const BodySink&)> stream;
  std::optional<std::uint64_t> content_length;
};

using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

// The half-open byte range of a "Range: bytes=a-b" header over a body of `size` bytes; nullopt when absent; kInvalid when
// malformed or outside (answer 416).
struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
};
Result<std::optional<ByteRange>> parse_range(std::string_view header, std::uint64_t size);

}  // namespace celslm
