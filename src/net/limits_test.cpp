// One more than each limit of HTTP, by either side. docs/trust.md has the attacks that they stop.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/http_client.h"
#include "net/http_limits.h"
#include "net/http_server.h"
#include "tests/support/raw_socket.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using testing_support::RawPeer;
using testing_support::RawServer;

class ServerLimitsTest : public testing::Test {
 protected:
  ServerLimitsTest() {
    server_ = *HttpServer::create({.max_body_bytes = 1000}, null_log());
    const auto fine = [](const HttpRequest&) { return HttpResponse{.body = "fine"}; };
    server_->route("GET", "/", fine);
    server_->route("GET", "/a", fine);
    server_->route("POST", "/a", fine);
    EXPECT_TRUE(server_->start());
  }
  // The answer's first bytes.
  std::string ask(const std::string& request) {
    RawPeer peer = RawPeer::connect(server_->port());
    peer.send(request);
    return peer.read_to_end().substr(0, 12);
  }
  std::string get(const std::string& target, const std::string& fields = "") {
    return ask("GET " + target + " HTTP/1.1\r\n" + fields + "Host: x\r\nConnection: close\r\n\r\n");
  }
  std::unique_ptr<HttpServer> server_;
};

TEST_F(ServerLimitsTest, HeaderFields) {
  const auto fields = [](std::size_t n) {
    std::string out;
    for (std::size_t i = 0; i < n - 2; ++i) out += fmt::format("F{}: v\r\n", i);  // Host and Connection are two
    return out;
  };
  EXPECT_EQ(get("/a", fields(kMaxHeaderFields)), "HTTP/1.1 200");
  EXPECT_EQ(get("/a", fields(kMaxHeaderFields + 1)), "HTTP/1.1 431");
}

TEST_F(ServerLimitsTest, Target) {
  const std::string query = "/a?q=";
  EXPECT_EQ(get(query + std::string(kMaxTargetBytes - query.size(), 'x')), "HTTP/1.1 200");
  EXPECT_EQ(get(query + std::string(kMaxTargetBytes - query.size() + 1, 'x')), "HTTP/1.1 414");
}

TEST_F(ServerLimitsTest, PathSegments) {
  std::string path;
  for (int i = 0; i < kMaxPathSegments; ++i) path += "/a";
  EXPECT_EQ(get(path), "HTTP/1.1 404");
  EXPECT_EQ(get(path + "/a"), "HTTP/1.1 400");
}

TEST_F(ServerLimitsTest, Body) {
  const auto post = [&](std::size_t n) {
    return ask(fmt::format("POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", n) +
               std::string(n, 'b'));
  };
  EXPECT_EQ(post(1000), "HTTP/1.1 200");
  EXPECT_EQ(post(1001), "HTTP/1.1 413");
}

TEST_F(ServerLimitsTest, ChunkedBody) {
  const auto post = [&](std::size_t n) {
    return ask(
        fmt::format("POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", n) +
        std::string(n, 'b') + "\r\n0\r\n\r\n");
  };
  EXPECT_EQ(post(1000), "HTTP/1.1 200");
  EXPECT_EQ(post(1001), "HTTP/1.1 413");
}

// What counts is how much may come before its end does.
TEST_F(ServerLimitsTest, ChunkExtension) {
  const std::string head = "POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(ask(head + "1;" + std::string(1000, 'e') + "\r\nb\r\n0\r\n\r\n"), "HTTP/1.1 200");
  EXPECT_EQ(ask(head + "1;" + std::string(kMaxChunkHeadBytes - 1, 'e')), "HTTP/1.1 400");
}

TEST(ClientLimitsTest, AnswerHead) {
  const auto call = [](std::size_t bytes) {
    RawServer server([bytes](RawPeer& peer, int) {
      peer.read_message();
      std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
      for (int i = 0; head.size() + 1100 < bytes; ++i) head += fmt::format("F{:04}: {}\r\n", i, std::string(1000, 'v'));
      head += "L: " + std::string(bytes - head.size() - 7, 'v') + "\r\n\r\n";
      peer.send(head);
    });
    return (*make_http_client({.base_url = server.url()}))->call({.path = "/"});
  };
  const auto fits = call(kMaxAnswerHeadBytes);
  EXPECT_TRUE(fits) << fits.error().message;
  const auto refused = call(kMaxAnswerHeadBytes + 1);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("headers of more than"));
}

TEST(ClientLimitsTest, ErrorBodyToARange) {
  const auto call = [](std::size_t bytes) {
    RawServer server([bytes](RawPeer& peer, int) {
      peer.read_message();
      peer.send(fmt::format("HTTP/1.1 500 No\r\nContent-Length: {}\r\n\r\n", bytes) + std::string(bytes, 'e'));
    });
    return (*make_http_client({.base_url = server.url()}))->call({.path = "/", .range = ByteRange{.first = 0, .end = 5}});
  };
  EXPECT_TRUE(call(kMaxErrorBodyBytes));
  EXPECT_EQ(call(kMaxErrorBodyBytes + 1).error().kind, ErrorKind::kInvalid);
}

TEST(ServerOptionsTest, Threads) {
  EXPECT_TRUE(HttpServer::create({.n_threads = kMaxThreads}, null_log()));
  EXPECT_EQ(HttpServer::create({.n_threads = kMaxThreads + 1}, null_log()).error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace celslm
