// Complete connections: the input is what a client sends before it disconnects, processed by HttpSession over a socket pair.
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/http_session.h"

namespace {

using namespace celslm;

constexpr std::size_t kMaxInput = 48U << 10;  // fits into the socket buffer, so that writing does not block

Router make_router() {
  Router out;
  out.add("POST", "/echo", [](const HttpRequest& r) { return HttpResponse{.content_type = "text/plain", .body = r.body}; });
  out.add("GET", "/items/:id", [](const HttpRequest& r) { return HttpResponse{.body = r.parameters.at("id")}; });
  out.add("GET", "/stream", [](const HttpRequest&) {
    return HttpResponse{.stream = [](const BodySink& sink) { return sink("a") && sink("b"); }};
  });
  return out;
}

SessionContext make_context() {
  return {.options = {.max_body_bytes = 4096,
                      .read_timeout = std::chrono::milliseconds(1000),
                      .write_timeout = std::chrono::milliseconds(1)},
          .router = make_router(),
          .make_error = default_error,
          .token_hash = hash_of(""),
          .table = ConnectionTable(2),
          .log = null_log()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static SessionContext context = make_context();
  static HttpSession session(context);
  std::array<int, 2> pair{};
  if (size > kMaxInput || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair.data()) != 0) return 0;
  const Fd client(pair[0]);
  if (size > 0 && ::send(client.get(), data, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) std::abort();
  ::shutdown(client.get(), SHUT_WR);
  {
    Connection connection(Fd(pair[1]), nullptr, context.options.read_timeout, context.options.write_timeout);
    session.serve(connection);
  }
  std::array<char, 4096> answer{};
  const ssize_t n = ::recv(client.get(), answer.data(), answer.size(), MSG_DONTWAIT);
  if (n > 0 && !std::string_view(answer.data(), static_cast<std::size_t>(n)).starts_with("HTTP/1.1 ")) std::abort();
  return 0;
}
