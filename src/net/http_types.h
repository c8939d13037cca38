// HTTP requests and responses as handlers see them, and types that client and server share.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"
#include "net/access/caller.h"

namespace celslm {

class BodyWriter;  // net/http_stream.h
class HttpReply;

struct HttpRequest {
  std::string method;
  std::string path;                               // decoded, without the query
  std::map<std::string, std::string> parameters;  // of the path pattern (":id") and the query; the path wins
  std::map<std::string, std::string> headers;     // names in lower case
  std::string body;
  Caller caller;
  // The same as a text that is never another's: "key <hash>" with a bearer token, "certificate <name>" with a certificate
  // alone, else "address <numeric address>"; then " for <name>" where kClientHeader tells apart whom it asks for.
  std::string client;
  // True once the client has closed the connection, or at least its sending side: the two look the same until something is
  // written. Cheap; callable from any thread at any time.
  std::function<bool()> disconnected;
  // True once nothing that is written can reach the client: it reset the connection, or closed it and was written to. As
  // disconnected() otherwise.
  std::function<bool()> unreachable;

  // Return the value, or "" if absent. header(): `name` must be in lower case.
  std::string parameter(const std::string& name) const { return value_of(parameters, name); }
  std::string header(const std::string& name) const { return value_of(headers, name); }

 private:
  static std::string value_of(const std::map<std::string, std::string>& in, const std::string& name) {
    const auto it = in.find(name);
    return it == in.end() ? std::string() : it->second;
  }
};

// Writes a piece of a streamed body; false once the client has disconnected: stop streaming then.
using BodySink = std::function<bool(std::string_view piece)>;

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::map<std::string, std::string> headers;
  std::string body;
  // If set, produces the body (chunked, or with content_length). Short bodies only: it holds a thread of the server's until
  // its client has read nearly all of it. If it returns false or throws, the client detects an incomplete body.
  std::function<bool(const BodySink&)> stream;
  // If set, called once after the headers are sent; the body is pushed from any thread, from then on (net/http_stream.h).
  // Chunked, or with content_length.
  std::function<void(std::shared_ptr<BodyWriter>)> pushed;
  // With `pushed`: a piece of the body that means nothing (a comment among events), written when nothing has been pushed for
  // 10 s, since proxies close quiet connections after 30 to 60 s; and every second to a client that has closed its sending
  // side, since only writing tells whether it still reads.
  std::string filler;
  // With `pushed`: a client that closes its sending side counts as gone. For bodies without a filler that may wait long.
  bool ends_with_input = false;
  // If set, nothing else of this response counts: HttpReply::send() gives the real one later, from any thread.
  std::function<void(std::shared_ptr<HttpReply>)> deferred;
  std::optional<std::uint64_t> content_length;  // of a streamed or pushed body
};

using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

// A half-open range of bytes: [first, end).
struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
};
// Parses a "Range: bytes=a-b" header (RFC 9110, section 14) for a body of `size` bytes. nullopt if the header is empty
// or has another unit; kInvalid, to be answered with 416, if it is malformed, outside the body, or has several ranges.
Result<std::optional<ByteRange>> parse_range(std::string_view header, std::uint64_t size);

}  // namespace celslm
