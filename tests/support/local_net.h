// HTTP without sockets: a server whose handlers are called directly, and a client that calls them, with injected faults.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/mutex.h"
#include "net/blocking_response.h"
#include "net/http_client.h"
#include "net/http_server.h"

namespace celslm::testing_support {

class LocalServer final : public HttpServer {
 public:
  explicit LocalServer(std::string url = "local://cloud") : url_(std::move(url)) {}

  void route(std::string_view method, std::string_view pattern, HttpHandler handler) override {
    routes_.push_back({std::string(method), segments(pattern), std::move(handler)});
  }
  void on_error(std::function<HttpResponse(int, std::string_view, std::string_view)> make) override {
    make_error_ = std::move(make);
  }
  Status start() override { return {}; }
  int port() const override { return 1; }
  std::string url() const override { return url_; }
  void stop(std::chrono::milliseconds) override {}

  // As a server does that lets nodes act for a tenant.
  HttpResponse handle(HttpRequest request) const {
    if (const std::string tenant = request.header(kTenantHeader); !tenant.empty() && request.caller.all_tenants) {
      request.caller.tenant = tenant;
      request.caller.all_tenants = false;
    }
    const auto path = segments(request.path);
    for (const Route& route : routes_) {
      if (route.method == request.method && matches(route.pattern, path, request.parameters)) return route.handler(request);
    }
    return make_error_ ? make_error_(404, "no such path", {}) : HttpResponse{.status = 404};
  }

 private:
  struct Route {
    std::string method;
    std::vector<std::string> pattern;
    HttpHandler handler;
  };

  static std::vector<std::string> segments(std::string_view path) {
    std::vector<std::string> out;
    while (!path.empty()) {
      path.remove_prefix(1);
      const auto end = std::min(path.find('/'), path.size());
      out.emplace_back(path.substr(0, end));
      path.remove_prefix(end);
    }
    return out;
  }

  static bool matches(const std::vector<std::string>& pattern, const std::vector<std::string>& path,
                      std::map<std::string, std::string>& parameters) {
    if (pattern.size() != path.size()) return false;
    for (std::size_t i = 0; i < path.size(); ++i) {
      if (pattern[i].starts_with(':')) {
        parameters[pattern[i].substr(1)] = path[i];
      } else if (pattern[i] != path[i]) {
        return false;
      }
    }
    return true;
  }

  const std::string url_;
  std::vector<Route> routes_;
  std::function<HttpResponse(int, std::string_view, std::string_view)> make_error_;
};

// Intercepts a call: may change its answer, delay it, or replace it. `go_on` performs the call. Called from every thread
// that uses the client.
using Fault = std::function<Result<HttpAnswer>(const HttpCall& call, const std::function<Result<HttpAnswer>()>& go_on)>;

class LocalClient final : public HttpClient {
 public:
  explicit LocalClient(const LocalServer& server, Fault fault = {}) : server_(server), fault_(std::move(fault)) {}

  Result<HttpAnswer> call(const HttpCall& call) override {
    auto answer = exchange(call);
    const std::uint64_t sent = call.path.size() + call.body.size();
    if (call.watch) call.watch({.sent = sent, .received = answer ? answer->bytes_received : 0});
    return answer;
  }
  std::string base_url() const override { return server_.url(); }

  // Method, path and body of all calls so far.
  std::string sent() const {
    const MutexLock lock(mutex_);
    return sent_;
  }

 private:
  static constexpr std::size_t kPiece = 10'000;  // not a divisor of any block size

  Result<HttpAnswer> exchange(const HttpCall& call) {
    {
      const MutexLock lock(mutex_);
      sent_ += call.method + " " + call.path + "\n";
      for (const auto& [name, value] : call.headers) sent_ += name + ": " + value + "\n";
      sent_ += call.body + "\n";
    }
    // The body of blocks reaches the sink after the fault has been applied, and is checked like in the real client.
    const bool is_blocks = call.sink && (call.range || call.path.contains("blocks="));
    HttpCall inner = call;
    if (is_blocks) inner.sink = {};
    const auto go_on = [&] { return deliver(inner); };
    auto answer = fault_ ? fault_(call, go_on) : go_on();
    if (!is_blocks || !answer || answer->status / 100 != 2) return answer;
    const ByteView body = answer->body;
    const std::uint64_t wanted = call.range ? call.range->end - call.range->first : body.size();
    if (body.size() > wanted) return fail(ErrorKind::kInvalid, "{}: the response has more than {} bytes", call.path, wanted);
    for (std::size_t at = 0; at < body.size(); at += kPiece) {
      if (!call.sink(body.subspan(at, std::min(kPiece, body.size() - at)))) return fail(ErrorKind::kCancelled, "cancelled");
    }
    if (body.size() < wanted)
      return fail(ErrorKind::kInvalid, "{}: expected a range of {} bytes, got {}", call.path, wanted, body.size());
    return HttpAnswer{.status = answer->status, .headers = answer->headers, .bytes_received = body.size()};
  }

  Result<HttpAnswer> deliver(const HttpCall& call) const {
    HttpRequest request{.method = call.method, .path = call.path, .headers = call.headers, .body = call.body};
    request.disconnected = [stop = call.stop] { return stop.stop_requested(); };
    if (const auto query = call.path.find('?'); query != std::string::npos) {
      request.path = call.path.substr(0, query);
      for (std::string rest = call.path.substr(query + 1); !rest.empty();) {
        const std::string pair = rest.substr(0, rest.find('&'));
        rest.erase(0, pair.size() + 1);
        request.parameters[pair.substr(0, pair.find('='))] = pair.substr(pair.find('=') + 1);
      }
    }
    if (call.range) request.headers["range"] = fmt::format("bytes={}-{}", call.range->first, call.range->end - 1);
    const HttpResponse response = blocking(server_.handle(request), request);
    HttpAnswer answer{.status = response.status, .headers = response.headers};
    bool complete = true;
    const auto take = [&](std::string_view piece) {
      answer.bytes_received += piece.size();
      if (call.sink && response.status / 100 == 2) return call.sink(as_bytes(piece));
      answer.body.insert(answer.body.end(), as_bytes(piece).begin(), as_bytes(piece).end());
      return true;
    };
    if (response.stream) {
      complete = response.stream(take);
    } else {
      complete = take(response.body);
    }
    if (!complete) return fail(ErrorKind::kUnavailable, "{}{}: the connection was lost", base_url(), call.path);
    return answer;
  }

  const LocalServer& server_;
  const Fault fault_;
  mutable Mutex mutex_;
  std::string sent_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm::testing_support
