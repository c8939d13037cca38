// Complete connections: the input is what a client sends before it disconnects, served by Connection over a socket pair.
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "net/connection.h"

namespace {

using namespace celslm;

constexpr std::size_t kMaxInput = 48U << 10;  // fits into the socket buffer, so that writing does not block

Router make_router() {
  Router out;
  out.add("POST", "/echo", [](const HttpRequest& r) { return HttpResponse{.content_type = "text/plain", .body = r.body}; });
  out.add("GET", "/items/:id", [](const HttpRequest& r) { return HttpResponse{.body = r.parameters.at("id")}; });
  out.add("GET", "/stream", [](const HttpRequest&) {
    return HttpResponse{.pushed = [](const std::shared_ptr<BodyWriter>& body) {
      body->push("a");
      body->push("b");
      body->end();
    }};
  });
  out.add("GET", "/later", [](const HttpRequest&) {
    return HttpResponse{.deferred = [](const std::shared_ptr<HttpReply>& reply) { reply->send({.body = "later"}); }};
  });
  return out;
}

// Everything runs on the fuzzer's thread.
std::shared_ptr<ServerCore> make_core() {
  auto out = std::make_shared<ServerCore>(ServerSettings{.options = {.max_body_bytes = 4096,
                                                                     .read_timeout = std::chrono::milliseconds(1000),
                                                                     .write_timeout = std::chrono::milliseconds(1)},
                                                         .router = make_router(),
                                                         .token_hash = hash_of(""),
                                                         .cross_origin = CrossOrigin({}),
                                                         .log = null_log()});
  out->run_handler = [](bool, const std::function<void()>& task) {
    task();
    return true;
  };
  out->run_soon = [](const std::function<void()>& task) { task(); };
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::shared_ptr<ServerCore> core = make_core();
  std::array<int, 2> pair{};
  if (size > kMaxInput || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair.data()) != 0) return 0;
  const Fd client(pair[0]);
  if (size > 0 && ::send(client.get(), data, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) std::abort();
  ::shutdown(client.get(), SHUT_WR);
  std::make_shared<Connection>(core, Fd(pair[1]), nullptr)->start();
  core->io.restart();
  core->io.run();  // until the connection has closed
  if (core->table.size() != 0 || core->bodies.bytes() != 0) std::abort();
  std::array<char, 4096> answer{};
  const ssize_t n = ::recv(client.get(), answer.data(), answer.size(), MSG_DONTWAIT);
  if (n > 0 && !std::string_view(answer.data(), static_cast<std::size_t>(n)).starts_with("HTTP/1.1 ")) std::abort();
  return 0;
}
