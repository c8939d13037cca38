#include "net/http_session.h"

#include <fmt/format.h>
#include <httplib.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <optional>
#include <ranges>
#include <string>
#include <utility>

#include "core/mutex.h"
#include "core/text.h"
#include "net/blocking_response.h"
#include "net/cors.h"
#include "net/http_limits.h"
#include "net/request_head.h"

namespace celslm {
namespace {

// The path that the library sees for every request: its own matcher is a std::regex, whose recursion overflows the stack on
// a long path. Router matches the real path.
constexpr const char* kAnyPath = "/";

constexpr std::size_t kCopiedBodyBytes = 64U << 10;

// Gives the library a head of our own making, then the connection's bytes.
class Stream final : public httplib::Stream {
 public:
  Stream(Connection& connection, std::string head) : connection_(connection), head_(std::move(head)) {}
  bool is_readable() const override { return at_ < head_.size() || connection_.readable(); }
  bool wait_readable() const override { return true; }  // read() waits, under the right deadline
  bool wait_writable() const override { return true; }  // so does write()
  bool is_peer_alive() const override { return !connection_.unreachable(); }
  ssize_t read(char* data, std::size_t size) override {
    if (at_ == head_.size()) return connection_.read(data, size);
    const std::size_t n = head_.copy(data, size, at_);
    at_ += n;
    return static_cast<ssize_t>(n);
  }
  ssize_t write(const char* data, std::size_t size) override {
    return connection_.write(data, size) ? static_cast<ssize_t>(size) : -1;
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return INVALID_SOCKET; }
  time_t duration() const override { return 0; }

 private:
  Connection& connection_;
  const std::string head_;
  std::size_t at_ = 0;
};

// Makes HttpRequest::disconnected and unreachable safe to call at any time, even from a thread that outlives its request.
class DisconnectProbe {
 public:
  explicit DisconnectProbe(const Connection& connection) : connection_(&connection) {}
  bool gone() const {
    const MutexLock lock(mutex_);
    return connection_ == nullptr || connection_->peer_gone();
  }
  bool unreachable() const {
    const MutexLock lock(mutex_);
    return connection_ == nullptr || connection_->unreachable();
  }
  void end() {
    const MutexLock lock(mutex_);
    connection_ = nullptr;
  }

 private:
  mutable Mutex mutex_;
  const Connection* connection_ CELSLM_GUARDED_BY(mutex_);
};

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool all_digits(std::string_view text) {
  return !text.empty() && text.size() <= 18 && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// What the library needs of a head: the framing of the body and whether to ask for it. It must not process paths, ranges,
// forms and encodings, nor limit the other fields in its own way.
std::string library_head(const RequestHead& head) {
  std::string out = fmt::format("{} {} HTTP/1.{}\r\n", head.method, kAnyPath, head.http_1_0 ? 0 : 1);
  for (const char* name : {"content-length", "transfer-encoding"}) {
    if (const auto it = head.headers.find(name); it != head.headers.end())
      out += fmt::format("{}: {}\r\n", name, it->second);
  }
  const auto expect = head.headers.find("expect");
  if (expect != head.headers.end() && lower(expect->second) == "100-continue") out += "expect: 100-continue\r\n";
  return out + "\r\n";
}

bool asks_to_close(const std::map<std::string, std::string>& headers) {
  const auto it = headers.find("connection");
  if (it == headers.end()) return false;
  for (const auto option : std::views::split(lower(it->second), ',')) {
    if (trimmed(std::string_view(option), " \t") == "close") return true;
  }
  return false;
}

// The status for a head that did not come to its end; 0 where there is nobody to tell.
int status_of_incomplete(Connection::Failure failure, std::string_view bytes) {
  if (bytes.empty()) return 0;
  if (failure == Connection::Failure::kTimeout) return 408;
  if (failure == Connection::Failure::kTooLong) return bytes.contains("\r\n") ? 431 : 414;
  return 400;
}

const char* message_for(int status) {
  switch (status) {
    case 400: return "malformed HTTP request";
    case 403: return "a page of another origin may not do that: allow its origin with --cors-origin";
    case 401: return "missing or wrong bearer token: send 'Authorization: Bearer …'";
    case 404: return "no such path";
    case 405: return "this path does not support that method";
    case 408: return "the request did not arrive in time";
    case 413: return "the request body is larger than this server accepts";
    case 414: return "the URL is longer than this server accepts";
    case 415: return "compressed request bodies are not supported";
    case 416: return "range not satisfiable";
    case 431: return "the request headers are longer than this server accepts";
    case 501: return "this transfer encoding is not supported: use chunked or Content-Length";
    case 503: return "too many requests at once: try again in a moment";
    default: return "internal error";
  }
}

bool same(const Hash256& a, const Hash256& b) {
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.bytes.size(); ++i) difference |= static_cast<unsigned>(a.bytes[i] ^ b.bytes[i]);
  return difference == 0;
}

}  // namespace

HttpResponse default_error(int status, std::string_view message) {
  std::string escaped;
  for (const char c : message) {
    if (c == '"' || c == '\\') escaped.push_back('\\');
    if (static_cast<unsigned char>(c) >= 0x20) escaped.push_back(c);
  }
  HttpResponse out{.status = status, .body = fmt::format(R"({{"error":{{"message":"{}"}}}})", escaped)};
  if (status == 503) out.headers["Retry-After"] = "1";
  return out;
}

std::string closing_response(const ErrorMaker& make_error, int status) {
  const HttpResponse error = make_error(status, message_for(status));
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n", status,
                                 httplib::status_message(status), error.content_type, error.body.size());
  for (const auto& [name, value] : error.headers) head += fmt::format("{}: {}\r\n", name, value);
  return head + "\r\n" + error.body;
}

class HttpSession::Impl : private httplib::Server {
 public:
  explicit Impl(SessionContext& context);
  void serve(Connection& connection);

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;

  // The state of the current request; reset for each.
  struct Current {
    HttpRequest request;
    std::string raw_path;
    std::string raw_query;
    bool admitted = false;  // admit() has decided
    bool answered = false;  // our own response is set
    bool working = false;   // counted in the table by begin_work()
    bool close_after = false;
    bool stream_broken = false;
    bool is_http_1_0 = false;  // HTTP/1.0 has no chunks: its body ends with the connection
    const HttpHandler* handler = nullptr;
    std::shared_ptr<DisconnectProbe> probe;
  };

  bool serve_one();
  bool refuse_head(int status);
  std::string take_head(RequestHead head);
  int check_framing() const;
  int check_access() const;
  int route();
  int admit(Response& response);
  void run_handler(const Request& request, Response& response);
  void fill(Response& response, HttpResponse answer);
  void fill_stream(Response& response, const std::shared_ptr<const HttpResponse>& answer);
  bool run_stream(const HttpResponse& answer, httplib::DataSink& sink);
  void refuse(Response& response, int status, std::string_view message);
  void answer_early(Response& response, HttpResponse answer);
  void set_connection_headers(Response& response);

  SessionContext& context_;
  const CrossOrigin cross_origin_;
  Connection* connection_ = nullptr;  // only inside serve()
  Current current_;
};

HttpSession::Impl::Impl(SessionContext& context) : context_(context), cross_origin_(context.options.allowed_origins) {
  // The library aborts streams if its listening socket is closed; it has none here, so set any valid descriptor.
  svr_sock_ = 0;
  set_payload_max_length(context.options.max_body_bytes);
  const auto handler = [this](const Request& request, Response& response) { run_handler(request, response); };
  Get(kAnyPath, handler);
  Post(kAnyPath, handler);
  Put(kAnyPath, handler);
  Patch(kAnyPath, handler);
  Delete(kAnyPath, handler);
  Options(kAnyPath, handler);
  set_pre_routing_handler([this](const Request&, Response& response) {
    return admit(response) == 100 ? HandlerResponse::Unhandled : HandlerResponse::Handled;
  });
  set_expect_100_continue_handler([this](const Request&, Response& response) { return admit(response); });
  set_error_handler([this](const Request&, Response& response) {
    if (!current_.answered) {  // a body that the library could not read: it reports 400 for nearly everything
      const int status = connection_->failure() == Connection::Failure::kTimeout ? 408 : response.status;
      refuse(response, status, message_for(status));
    }
    return HandlerResponse::Handled;
  });
  set_exception_handler([this](const Request&, Response& response, const std::exception_ptr&) {
    context_.log->error("{} {}: the handler threw an exception", current_.request.method, current_.request.path);
    refuse(response, 500, message_for(500));
  });
  set_post_routing_handler([this](const Request&, Response& response) { set_connection_headers(response); });
}

void HttpSession::Impl::set_connection_headers(Response& response) {
  const bool last =
      current_.close_after || current_.is_http_1_0 || asks_to_close(current_.request.headers) || context_.table.draining();
  response.headers.erase("Keep-Alive");
  response.headers.erase("Connection");
  if (last) response.set_header("Connection", "close");
  current_.close_after = last;
  for (const auto& [name, value] : cross_origin_.answer_headers(current_.request.headers)) response.set_header(name, value);
}

// Takes the head for our request; returns the one that the library reads in its place.
std::string HttpSession::Impl::take_head(RequestHead head) {
  std::string out = library_head(head);
  HttpRequest& request = current_.request;
  request.method = std::move(head.method);
  request.headers = std::move(head.headers);
  // A condition that never holds: no answer of this server has a validator (ETag, Last-Modified) to compare with.
  if (request.headers.contains("if-range")) request.headers.erase("range");
  current_.raw_path = std::move(head.path);
  current_.raw_query = std::move(head.query);
  current_.is_http_1_0 = head.http_1_0;
  current_.probe = std::make_shared<DisconnectProbe>(*connection_);
  request.client =
      context_.options.bearer_token.empty() ? "address " + connection_->peer_address() : "key " + context_.token_hash.hex();
  request.disconnected = [probe = current_.probe] { return probe->gone(); };
  request.unreachable = [probe = current_.probe] { return probe->unreachable(); };
  // The library would read the body of a POST without a length up to the end of the connection, including later requests.
  connection_->begin_body(request.headers.contains("content-length") || request.headers.contains("transfer-encoding"));
  return out;
}

// Ambiguous framing allows request smuggling past a proxy: only the unambiguous forms are accepted.
int HttpSession::Impl::check_framing() const {
  const auto& headers = current_.request.headers;
  const auto length = headers.find("content-length");
  const auto encoding = headers.find("transfer-encoding");
  if (length != headers.end() && encoding != headers.end()) return 400;
  if (encoding != headers.end() && lower(encoding->second) != "chunked") return 501;
  if (length != headers.end() && !all_digits(length->second)) return 400;
  if (length != headers.end() && std::stoull(length->second) > context_.options.max_body_bytes) return 413;
  if (const auto it = headers.find("content-encoding"); it != headers.end() && lower(it->second) != "identity") return 415;
  return 200;
}

int HttpSession::Impl::check_access() const {
  if (context_.options.bearer_token.empty() || std::ranges::contains(context_.options.open_paths, current_.raw_path))
    return 200;
  const auto it = current_.request.headers.find("authorization");
  if (it == current_.request.headers.end()) return 401;
  constexpr std::string_view kScheme = "bearer ";
  const std::string_view value = it->second;
  if (lower(std::string(value.substr(0, kScheme.size()))) != kScheme) return 401;
  return same(hash_of(value.substr(kScheme.size())), context_.token_hash) ? 200 : 401;
}

int HttpSession::Impl::route() {
  HttpRequest& request = current_.request;
  auto path = decode_percent(current_.raw_path, false);
  auto query = parse_query(current_.raw_query);
  if (!path || !query) return 400;
  Router::Match match = context_.router.find(request.method, current_.raw_path);
  request.path = *std::move(path);
  request.parameters = std::move(match.parameters);
  request.parameters.merge(*query);  // of equal names the path's is kept
  current_.handler = match.handler;
  if (match.status == 405) request.headers[":allow"] = match.allow;
  return match.status;
}

// All checks that are possible before the body is read. Returns 100 to continue, or else the status of the refusal in
// `response`. The library calls it once or twice per request.
int HttpSession::Impl::admit(Response& response) {
  if (current_.admitted) return current_.handler != nullptr && current_.working ? 100 : response.status;
  current_.admitted = true;
  const HttpRequest& request = current_.request;
  int status = check_framing();
  if (status == 200 && CrossOrigin::is_preflight(request.method, request.headers)) {
    const Headers answer = cross_origin_.preflight_headers(request.headers);
    if (!answer.empty()) {
      answer_early(response, {.status = 204, .headers = answer});
      return 204;
    }
    status = 403;
  }
  if (status == 200 && cross_origin_.refuses(request.method, request.headers)) status = 403;
  if (status == 200) status = check_access();
  if (status == 200) status = route();
  const bool open = std::ranges::contains(context_.options.open_paths, current_.raw_path);
  if (status == 200 && !context_.table.begin_work(*connection_, open)) status = 503;
  if (status == 200) {
    current_.working = true;
    return 100;
  }
  refuse(response, status, message_for(status));
  if (status == 401) response.set_header("WWW-Authenticate", "Bearer");
  if (status == 405) response.set_header("Allow", current_.request.headers[":allow"]);
  return status;
}

void HttpSession::Impl::refuse(Response& response, int status, std::string_view message) {
  answer_early(response, context_.make_error(status, message));
}

// An answer to a request of which the body was not read.
void HttpSession::Impl::answer_early(Response& response, HttpResponse answer) {
  const auto& headers = current_.request.headers;
  const auto length = headers.find("content-length");
  const bool body_follows = headers.contains("transfer-encoding") || (length != headers.end() && length->second != "0");
  // The connection cannot be reused: its next bytes belong to a request that was not read to its end.
  if (body_follows) {
    current_.close_after = true;
    connection_->stop_reading();
  }
  fill(response, std::move(answer));
}

void HttpSession::Impl::run_handler(const Request& request, Response& response) {
  current_.request.body = request.body;
  fill(response, blocking((*current_.handler)(current_.request), current_.request));
}

void HttpSession::Impl::fill(Response& response, HttpResponse answer) {
  current_.answered = true;
  response.status = answer.status >= 200 && answer.status <= 599 ? answer.status : 500;
  for (const auto& [name, value] : answer.headers) response.set_header(name, value);
  // The library copies a body behind its head to send both together, which pays off for small bodies only.
  if (!answer.stream && answer.body.size() > kCopiedBodyBytes) {
    const auto body = std::make_shared<const std::string>(std::move(answer.body));
    answer.content_length = body->size();
    answer.stream = [body](const BodySink& sink) { return sink(*body); };
  }
  if (!answer.stream || answer.content_length == 0) {
    const bool bare = answer.body.empty() && (answer.status == 204 || answer.status == 304);
    if (!bare) response.set_content(std::move(answer.body), answer.content_type);
    return;
  }
  fill_stream(response, std::make_shared<const HttpResponse>(std::move(answer)));
}

void HttpSession::Impl::fill_stream(Response& response, const std::shared_ptr<const HttpResponse>& answer) {
  if (answer->content_length) {
    response.set_content_provider(*answer->content_length, answer->content_type,
                                  [this, answer](std::size_t offset, std::size_t, httplib::DataSink& sink) {
                                    // A second call means that the stream was shorter than its length.
                                    return offset == 0 && run_stream(*answer, sink);
                                  });
    return;
  }
  const auto provider = [this, answer](std::size_t, httplib::DataSink& sink) {
    if (!run_stream(*answer, sink)) return false;
    sink.done();
    return true;
  };
  if (current_.is_http_1_0) {
    response.set_content_provider(answer->content_type, provider);
  } else {
    response.set_chunked_content_provider(answer->content_type, provider);
  }
}

// False if the body is incomplete; the caller then closes the connection.
bool HttpSession::Impl::run_stream(const HttpResponse& answer, httplib::DataSink& sink) {
  std::uint64_t left = answer.content_length.value_or(UINT64_MAX);
  bool ok = true;
  const BodySink write = [&](std::string_view piece) {
    if (piece.empty()) return ok && !connection_->peer_gone();
    ok = ok && piece.size() <= left && sink.write(piece.data(), piece.size());
    left -= ok && answer.content_length ? piece.size() : 0;
    return ok;
  };
  bool finished = false;
  try {
    finished = answer.stream(write);
  } catch (const std::exception& e) {
    context_.log->error("{} {}: the stream threw: {}", current_.request.method, current_.request.path, e.what());
  } catch (...) {
    context_.log->error("{} {}: the stream threw", current_.request.method, current_.request.path);
  }
  const bool complete = finished && ok && (!answer.content_length || left == 0);
  current_.stream_broken = !complete;
  if (!complete && current_.is_http_1_0) connection_->reset_on_close();  // HTTP/1.0 has no other way to signal it
  return complete;
}

// Responds to a head that is no request, without the library; false: the connection ends.
bool HttpSession::Impl::refuse_head(int status) {
  connection_->stop_reading();
  const std::string text = closing_response(context_.make_error, status);
  connection_->write(text.data(), text.size());
  return false;
}

bool HttpSession::Impl::serve_one() {
  current_ = Current{};
  std::string bytes;
  if (!connection_->read_head(bytes)) {
    const int status = status_of_incomplete(connection_->failure(), bytes);
    return status != 0 && refuse_head(status);
  }
  auto head = parse_request_head(bytes);
  if (!head) return refuse_head(head.error());
  Stream stream(*connection_, take_head(*std::move(head)));
  bool closed = false;
  bool ok = false;
  try {
    ok = process_request(stream, {}, 0, {}, 0, context_.table.draining(), closed, {});
  } catch (const std::exception& e) {  // out of memory, or make_error threw
    context_.log->error("a request ended with an exception: {}", e.what());
  }
  current_.probe->end();
  if (current_.working) context_.table.end_work(*connection_);
  return ok && !closed && !current_.close_after;
}

void HttpSession::Impl::serve(Connection& connection) {
  connection_ = &connection;
  context_.table.add(connection);
  current_ = Current{};
  if (connection.handshake()) {
    std::chrono::milliseconds patience = context_.options.read_timeout;  // until the first request of a new connection
    do {
      context_.table.set_idle(connection);
      if (!connection.wait_for_request(patience)) break;
      context_.table.set_head(connection);
      patience = kKeepAlive;
    } while (serve_one());
    if (!current_.stream_broken) connection.finish();
  }
  current_ = Current{};
  context_.table.remove(connection);
  connection_ = nullptr;
}

HttpSession::HttpSession(SessionContext& context) : impl_(std::make_unique<Impl>(context)) {}
HttpSession::~HttpSession() = default;
void HttpSession::serve(Connection& connection) {
  impl_->serve(connection);
}

}  // namespace celslm
