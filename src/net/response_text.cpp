#include "net/response_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/beast/http/status.hpp>
#include <iterator>

namespace celslm {
namespace {

std::string_view reason(int status) {
  namespace http = boost::beast::http;
  const http::status known = http::int_to_status(static_cast<unsigned>(status));
  if (known == http::status::unknown) return "";
  const auto text = http::obsolete_reason(known);
  return {text.data(), text.size()};
}

bool fits_a_line(std::string_view text) {
  return std::ranges::none_of(text, [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7F; });
}

}  // namespace

HttpResponse default_error(int status, std::string_view message, std::string_view /*code*/) {
  std::string escaped;
  for (const char c : message) {
    if (c == '"' || c == '\\') escaped.push_back('\\');
    if (static_cast<unsigned char>(c) >= 0x20) escaped.push_back(c);
  }
  HttpResponse out{.status = status, .body = fmt::format(R"({{"error":{{"message":"{}"}}}})", escaped)};
  if (status == 429 || status == 503) out.headers["Retry-After"] = "1";
  return out;
}

const char* message_for(int status) {
  switch (status) {
    case 400: return "malformed HTTP request";
    case 403:
      return "a page of another origin may not do that, nor one that calls this server by its own name: allow its origin "
             "with --cors-origin";
    case 401: return "missing or wrong bearer token: send 'Authorization: Bearer …'";
    case 404: return "no such path";
    case 405: return "this path does not support that method";
    case 408: return "the request did not arrive in time";
    case 413: return "the request body is larger than this server accepts";
    case 414: return "the URL is longer than this server accepts";
    case 415: return "compressed request bodies are not supported";
    case 416: return "range not satisfiable";
    case 429: return "too many requests at once: try again in a moment";
    case 431: return "the request headers are longer than this server accepts";
    case 501: return "this transfer encoding is not supported: use chunked or Content-Length";
    default: return "internal error";
  }
}

std::string response_head(const HttpResponse& response, BodyFraming framing, bool last) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
  const auto add = [&](std::string_view name, std::string_view value) {
    if (fits_a_line(name) && fits_a_line(value)) fmt::format_to(std::back_inserter(out), "{}: {}\r\n", name, value);
  };
  if (framing == BodyFraming::kLength) add("Content-Length", std::to_string(response.content_length.value_or(0)));
  if (framing == BodyFraming::kChunked) add("Transfer-Encoding", "chunked");
  if (framing != BodyFraming::kNone) add("Content-Type", response.content_type);
  if (last) add("Connection", "close");
  for (const auto& [name, value] : response.headers) add(name, value);
  return out + "\r\n";
}

std::string closing_response(const HttpResponse& response) {
  HttpResponse head{.status = response.status, .content_type = response.content_type, .headers = response.headers};
  head.content_length = response.body.size();
  return response_head(head, BodyFraming::kLength, true) + response.body;
}

std::string chunk_head(std::size_t bytes) {
  return fmt::format("{:x}\r\n", bytes);
}

}  // namespace celslm
