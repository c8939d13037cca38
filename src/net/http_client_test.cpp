#include "net/http_client.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <latch>
#include <thread>

#include "net/http_limits.h"
#include "net/http_server.h"
#include "tests/support/raw_socket.h"
#include "tests/support/tls_identity.h"

namespace celslm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing_support::RawPeer;
using testing_support::RawServer;

std::unique_ptr<HttpClient> client_for(const std::string& url, HttpClientOptions options = {}) {
  options.base_url = url;
  auto client = make_http_client(options);
  EXPECT_TRUE(client) << client.error().message;
  return client ? *std::move(client) : nullptr;
}

// Reads one request, including its body, and sends these bytes in response, once per connection.
RawServer::Script answer_with(std::string bytes) {
  return [bytes = std::move(bytes)](RawPeer& peer, int) {
    peer.read_message();
    peer.send(bytes);
  };
}

// Waits until the client closes the connection; for peers that go silent.
void wait_for_end(RawPeer& peer) {
  peer.read_to_end();
}

std::string answer_text(const Result<HttpAnswer>& answer) {
  return answer ? std::string(as_text(answer->body)) : "error: " + answer.error().message;
}

ErrorKind kind_of(const Result<HttpAnswer>& answer) {
  return answer ? ErrorKind::kInternal : answer.error().kind;
}

class EchoServerTest : public testing::Test {
 protected:
  void start(HttpServerOptions options = {}) {
    server_ = *HttpServer::create(options, null_log());
    server_->route("POST", "/echo",
                   [](const HttpRequest& r) { return HttpResponse{.content_type = "text/plain", .body = r.body}; });
    server_->route("GET", "/headers", [](const HttpRequest& r) {
      std::string out;
      for (const auto& [name, value] : r.headers) out += name + ": " + value + "\n";
      return HttpResponse{.content_type = "text/plain", .headers = {{"X-Answer", "yes"}}, .body = out};
    });
    server_->route("GET", "/blob", [](const HttpRequest& r) {
      const std::string blob = "0123456789";
      const auto it = r.headers.find("range");
      const auto range = parse_range(it == r.headers.end() ? "" : it->second, blob.size());
      if (!range) return HttpResponse{.status = 416, .body = range.error().message};
      if (!*range) return HttpResponse{.body = blob};
      return HttpResponse{
          .status = 206,
          .headers = {{"Content-Range", fmt::format("bytes {}-{}/{}", (*range)->first, (*range)->end - 1, blob.size())}},
          .body = blob.substr((*range)->first, (*range)->end - (*range)->first)};
    });
    const Status status = server_->start();
    ASSERT_TRUE(status) << status.error().message;
  }
  std::unique_ptr<HttpServer> server_;
};

TEST_F(EchoServerTest, CarriesBodiesBothWays) {
  start();
  const auto client = client_for(server_->url() + "/");
  const std::string body(3'000'000, 'x');
  const auto answer = client->call({.method = "POST", .path = "/echo", .body = body});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(as_text(answer->body), body);
  EXPECT_EQ(answer->bytes_received, body.size());
}

TEST_F(EchoServerTest, SendsHeadersAndTokenAndNothingElse) {
  start({.bearer_token = "abc"});
  const auto client = client_for(server_->url(), {.bearer_token = "abc"});
  const auto answer = client->call({.path = "/headers", .headers = {{"X-Question", "a=b"}}});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->headers.at("x-answer"), "yes");
  EXPECT_EQ(answer_text(answer),
            fmt::format("accept: */*\nauthorization: Bearer abc\nhost: 127.0.0.1:{}\nx-question: a=b\n", server_->port()));
}

TEST_F(EchoServerTest, AnErrorStatusIsAValue) {
  start({.bearer_token = "abc"});
  const auto answer = client_for(server_->url())->call({.path = "/headers"});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 401);
  EXPECT_THAT(answer_text(answer), HasSubstr("bearer token"));
}

TEST_F(EchoServerTest, FetchesRanges) {
  start();
  const auto client = client_for(server_->url());
  const auto answer = client->call({.path = "/blob", .range = ByteRange{.first = 3, .end = 7}});
  EXPECT_EQ(answer_text(answer), "3456");
  EXPECT_EQ(client->call({.path = "/blob", .range = ByteRange{.first = 100, .end = 101}})->status, 416);
}

TEST_F(EchoServerTest, PassesPiecesToTheSinkAndKeepsNone) {
  start();
  std::string got;
  const auto answer = client_for(server_->url())->call({.path = "/blob", .sink = [&](ByteView piece) {
                                                          got += as_text(piece);
                                                          return true;
                                                        }});
  ASSERT_TRUE(answer);
  EXPECT_EQ(got, "0123456789");
  EXPECT_TRUE(answer->body.empty());
  EXPECT_EQ(answer->bytes_received, 10U);
}

TEST_F(EchoServerTest, KeepsTheBodyOfAnErrorFromTheSink) {
  start();
  const auto answer = client_for(server_->url())->call({.path = "/nowhere", .sink = [&](ByteView) {
                                                          ADD_FAILURE() << "an error page reached the sink";
                                                          return true;
                                                        }});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 404);
  EXPECT_THAT(answer_text(answer), HasSubstr("no such path"));
}

TEST_F(EchoServerTest, IsUsedByManyThreadsAtOnce) {
  start();
  const auto client = client_for(server_->url());
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 6; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 30; ++i) {
          const std::string body = fmt::format("{}/{}", t, i);
          right += answer_text(client->call({.method = "POST", .path = "/echo", .body = body})) == body ? 1 : 0;
        }
      });
    }
  }
  EXPECT_EQ(right, 180);
}

TEST_F(EchoServerTest, ASinkThatThrowsIsAnError) {
  start();
  const auto answer = client_for(server_->url())->call({.path = "/blob", .sink = [](ByteView) -> bool { throw 1; }});
  EXPECT_EQ(kind_of(answer), ErrorKind::kInternal);
  EXPECT_FALSE(answer);
}

TEST(HttpClientTest, UsesOneConnectionForManyCalls) {
  RawServer server([](RawPeer& peer, int) {
    while (!peer.read_message().empty()) peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  const auto client = client_for(server.url());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(answer_text(client->call({.path = "/"})), "ok");
  EXPECT_EQ(server.connections(), 1);
}

TEST(HttpClientTest, RetriesOnANewConnectionIfAKeptOneHasDied) {
  RawServer server([](RawPeer& peer, int) {
    peer.read_message();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  const auto client = client_for(server.url());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(answer_text(client->call({.method = "POST", .path = "/", .body = "x"})), "ok");
  EXPECT_EQ(server.connections(), 3);
}

struct Hostile {
  const char* name;
  std::string answer;  // then the connection is closed
  ErrorKind kind;
  std::string message_has;
  std::optional<ByteRange> range;
};

void PrintTo(const Hostile& h, std::ostream* out) {
  *out << h.name;
}

class HostileServerTest : public testing::TestWithParam<Hostile> {};

TEST_P(HostileServerTest, IsReportedAsExpected) {
  RawServer server(answer_with(GetParam().answer));
  const auto answer = client_for(server.url())->call({.path = "/thing", .range = GetParam().range, .max_body_bytes = 1000});
  ASSERT_FALSE(answer) << answer->status << " " << answer_text(answer);
  EXPECT_EQ(answer.error().kind, GetParam().kind) << answer.error().message;
  EXPECT_THAT(answer.error().message, HasSubstr(server.url() + "/thing"));
  EXPECT_THAT(answer.error().message, HasSubstr(GetParam().message_has));
}

constexpr ByteRange kRange{.first = 10, .end = 20};
const std::string kPartial = "HTTP/1.1 206 Partial Content\r\n";

INSTANTIATE_TEST_SUITE_P(
    Http, HostileServerTest,
    testing::Values(
        Hostile{"HangsUp", "", ErrorKind::kUnavailable, "", {}},
        Hostile{"Garbage", "\x16\x03\x01 what is this\r\n\r\n", ErrorKind::kUnavailable, "", {}},
        Hostile{"GarbageStatus", "HTTP/1.1 banana\r\n\r\n", ErrorKind::kUnavailable, "", {}},
        Hostile{"DiesInTheHead", "HTTP/1.1 200 OK\r\nContent-Le", ErrorKind::kUnavailable, "", {}},
        Hostile{"DiesHalfway",
                "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + std::string(50, 'x'),
                ErrorKind::kUnavailable,
                "",
                {}},
        Hostile{"DiesBetweenChunks",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                ErrorKind::kUnavailable,
                "",
                {}},
        Hostile{"BrokenChunk",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
                ErrorKind::kUnavailable,
                "",
                {}},
        Hostile{"TooLong",
                "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + std::string(1001, 'x'),
                ErrorKind::kInvalid,
                "more than 1000",
                {}},
        Hostile{"TooLongInChunks",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" + std::string(2048, 'x') + "\r\n0\r\n\r\n",
                ErrorKind::kInvalid,
                "more than 1000",
                {}},
        Hostile{"TooLongUntilClose",
                "HTTP/1.1 200 OK\r\n\r\n" + std::string(5000, 'x'),
                ErrorKind::kInvalid,
                "more than 1000",
                {}},
        Hostile{"TooLongErrorPage",
                "HTTP/1.1 500 No\r\n\r\n" + std::string(5000, 'x'),
                ErrorKind::kInvalid,
                "more than 1000",
                {}},
        Hostile{"EndlessHeaders",
                "HTTP/1.1 200 OK\r\n" + std::string(2000, 'a') + ": " + std::string(70'000, 'b') + "\r\n\r\n",
                ErrorKind::kInvalid,
                "headers of more than",
                {}},
        Hostile{"WholeBodyToARange", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789", ErrorKind::kInvalid,
                "expected status 206 for a range request, got 200", kRange},
        Hostile{"RedirectedRange", "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", ErrorKind::kInvalid,
                "expected status 206 for a range request, got 302", kRange},
        Hostile{"ShortRange", kPartial + "Content-Range: bytes 10-19/100\r\nContent-Length: 9\r\n\r\n012345678",
                ErrorKind::kInvalid, "expected a range of 10 bytes, got 9", kRange},
        Hostile{"EmptyRange", kPartial + "Content-Range: bytes 10-19/100\r\nContent-Length: 0\r\n\r\n", ErrorKind::kInvalid,
                "expected a range of 10 bytes, got 0", kRange},
        Hostile{"LongRange", kPartial + "Content-Range: bytes 10-19/100\r\nContent-Length: 11\r\n\r\n01234567890",
                ErrorKind::kInvalid, "more than 10", kRange},
        Hostile{"OtherRange", kPartial + "Content-Range: bytes 0-9/100\r\nContent-Length: 10\r\n\r\n0123456789",
                ErrorKind::kInvalid, "another range", kRange},
        Hostile{"RangeWithoutPlace", kPartial + "Content-Length: 10\r\n\r\n0123456789", ErrorKind::kInvalid, "another range",
                kRange},
        Hostile{"RangeThatDies", kPartial + "Content-Range: bytes 10-19/100\r\nContent-Length: 10\r\n\r\n01234",
                ErrorKind::kUnavailable, "", kRange}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(HttpClientTest, DoesNotFollowRedirects) {
  RawServer server(answer_with("HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
  const auto answer = client_for(server.url())->call({.path = "/"});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 302);
  EXPECT_EQ(answer->headers.at("location"), "/again");
  EXPECT_EQ(server.connections(), 1);
}

TEST(HttpClientTest, ReturnsTheFinalResponseAfterInterimOnes) {
  RawServer server(
      answer_with("HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\nHTTP/1.1 500 No\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nno"));
  const auto answer = client_for(server.url())->call({.path = "/"});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 500);
  EXPECT_FALSE(answer->headers.contains("x-a"));
  EXPECT_EQ(answer->headers.at("x-b"), "2");
}

TEST(HttpClientTest, NothingOfAWrongRangeReachesTheSink) {
  RawServer server(answer_with(kPartial + "Content-Range: bytes 0-9/100\r\nContent-Length: 10\r\n\r\n0123456789"));
  const auto answer = client_for(server.url())->call({.path = "/", .range = kRange, .sink = [](ByteView) {
                                                        ADD_FAILURE() << "bytes of another range reached the sink";
                                                        return true;
                                                      }});
  EXPECT_EQ(kind_of(answer), ErrorKind::kInvalid);
}

TEST(HttpClientTest, GivesUpOnASilentServer) {
  RawServer server([](RawPeer& peer, int) { wait_for_end(peer); });
  const auto client = client_for(server.url());
  const auto stalled = client->call({.path = "/", .timeout = seconds(20), .stall_timeout = milliseconds(50)});
  EXPECT_EQ(kind_of(stalled), ErrorKind::kUnavailable);
  EXPECT_THAT(answer_text(stalled), HasSubstr("stalled"));
  const auto late = client->call({.path = "/", .timeout = milliseconds(50), .stall_bytes_per_s = 0});
  EXPECT_EQ(kind_of(late), ErrorKind::kUnavailable);
  EXPECT_THAT(answer_text(late), HasSubstr("no complete response within 50 ms"));
}

TEST(HttpClientTest, GivesUpOnAServerThatGoesSilentHalfway) {
  RawServer server([](RawPeer& peer, int) {
    peer.read_message();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    wait_for_end(peer);
  });
  const auto answer =
      client_for(server.url())->call({.path = "/", .timeout = seconds(20), .stall_timeout = milliseconds(50)});
  EXPECT_EQ(kind_of(answer), ErrorKind::kUnavailable);
  EXPECT_THAT(answer_text(answer), HasSubstr("stalled"));
}

TEST(HttpClientTest, ASlowSinkIsNotAStalledServer) {
  RawServer server(answer_with("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"));
  const auto answer = client_for(server.url())->call({.path = "/", .stall_timeout = milliseconds(30), .sink = [](ByteView) {
                                                        const auto until =
                                                            std::chrono::steady_clock::now() + milliseconds(100);
                                                        while (std::chrono::steady_clock::now() < until)
                                                          std::this_thread::yield();
                                                        return true;
                                                      }});
  EXPECT_TRUE(answer) << answer.error().message;
}

TEST(HttpClientTest, AbortsAnEndlessBodyAtTheLimit) {
  RawServer server([](RawPeer& peer, int) {
    peer.read_message();
    peer.send("HTTP/1.1 200 OK\r\n\r\n");
    while (peer.send(std::string(10'000, 'x'))) continue;
  });
  const auto answer = client_for(server.url())->call({.path = "/", .max_body_bytes = 100'000});
  EXPECT_EQ(kind_of(answer), ErrorKind::kInvalid);
}

TEST(HttpClientTest, StopsImmediatelyWhenCancelled) {
  std::latch asked(1);
  RawServer server([&](RawPeer& peer, int) {
    peer.read_message();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    asked.count_down();
    wait_for_end(peer);
  });
  std::stop_source stop;
  Result<HttpAnswer> answer;
  {
    const std::jthread caller([&, client = client_for(server.url())] {
      answer = client->call({.path = "/", .timeout = milliseconds(0), .stall_bytes_per_s = 0, .stop = stop.get_token()});
    });
    asked.wait();
    stop.request_stop();
  }
  EXPECT_EQ(kind_of(answer), ErrorKind::kCancelled);
}

TEST(HttpClientTest, DoesNotStartIfAlreadyCancelled) {
  RawServer server(answer_with("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(kind_of(client_for(server.url())->call({.path = "/", .stop = stop.get_token()})), ErrorKind::kCancelled);
  EXPECT_EQ(server.connections(), 0);
}

TEST(HttpClientTest, TheSinkCanCancelAndTheClientRemainsUsable) {
  RawServer server([](RawPeer& peer, int) {
    while (!peer.read_message().empty()) peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  const auto client = client_for(server.url());
  EXPECT_EQ(kind_of(client->call({.path = "/", .sink = [](ByteView) { return false; }})), ErrorKind::kCancelled);
  EXPECT_EQ(answer_text(client->call({.path = "/"})), "ok");
}

TEST(HttpClientTest, ReportsARefusedConnection) {
  int port = 0;
  {
    const RawServer server([](RawPeer&, int) {});
    port = server.port();
  }
  const auto answer = client_for(fmt::format("http://127.0.0.1:{}", port))->call({.path = "/"});
  EXPECT_EQ(kind_of(answer), ErrorKind::kUnavailable);
  EXPECT_THAT(answer_text(answer), HasSubstr(fmt::format("127.0.0.1:{}", port)));
}

TEST(HttpClientTest, RefusesInputThatWouldAlterTheRequest) {
  const auto client = client_for("http://127.0.0.1:9");
  EXPECT_EQ(kind_of(client->call({.path = "no-slash"})), ErrorKind::kInvalid);
  EXPECT_EQ(kind_of(client->call({.path = "/a b"})), ErrorKind::kInvalid);
  EXPECT_EQ(kind_of(client->call({.path = "/a\r\nX: y"})), ErrorKind::kInvalid);
  EXPECT_EQ(kind_of(client->call({.method = "GET /", .path = "/"})), ErrorKind::kInvalid);
  EXPECT_EQ(kind_of(client->call({.path = "/", .headers = {{"A", "b\r\nC: d"}}})), ErrorKind::kInvalid);
  EXPECT_EQ(kind_of(client->call({.path = "/", .range = ByteRange{.first = 5, .end = 5}})), ErrorKind::kInvalid);
}

TEST(HttpClientTest, RejectsMalformedBaseUrls) {
  for (const char* url : {"", "127.0.0.1:80", "ftp://host", "file:///etc/passwd", "http://", "http://user:pw@host",
                          "http://host/?q", "http://a b"}) {
    const auto client = make_http_client({.base_url = url});
    ASSERT_FALSE(client) << url;
    EXPECT_THAT(client.error().message, HasSubstr("http://HOST:PORT"));
  }
  EXPECT_EQ(make_http_client({.base_url = "https://host", .ca_file = "/none.pem"}).error().kind, ErrorKind::kNotFound);
}

TEST(HttpClientTest, NeitherShowsPasswordsNorSendsTokensInClear) {
  for (const char* url : {"http://user:secret@host", "ftp://user:secret@host", "user:secret@host", "http://u:secret@a b"}) {
    const auto client = make_http_client({.base_url = url});
    ASSERT_FALSE(client) << url;
    EXPECT_THAT(client.error().message, testing::Not(HasSubstr("secret")));
  }
  const auto with_token = [](const char* url, bool in_clear = false) {
    return make_http_client({.base_url = url, .bearer_token = "token", .token_in_clear = in_clear});
  };
  EXPECT_THAT(with_token("http://cloud:8081").error().message, HasSubstr("https://"));
  EXPECT_FALSE(with_token("HTTP://10.0.0.1"));
  EXPECT_FALSE(with_token("http://localhost.evil.example"));
  EXPECT_TRUE(with_token("http://cloud:8081", true));
  for (const char* url : {"https://cloud", "http://127.0.0.1:8081", "http://[::1]:8081", "http://localhost"})
    EXPECT_TRUE(with_token(url)) << url;
  EXPECT_TRUE(make_http_client({.base_url = "http://cloud:8081"}));
}

class TlsTest : public EchoServerTest {
 protected:
  void start_tls() {
    identity_ = testing_support::TlsIdentity::create(std::filesystem::path(testing::TempDir()) /
                                                     fmt::format("celslm-tls-{}", ::getpid()));
    ASSERT_TRUE(identity_);
    start({.tls_certificate_file = identity_->certificate_file(), .tls_key_file = identity_->key_file()});
  }
  std::unique_ptr<testing_support::TlsIdentity> identity_;
};

TEST_F(TlsTest, RoundTripsWithATrustedCertificate) {
  start_tls();
  const auto client = client_for(server_->url(), {.ca_file = identity_->certificate_file()});
  EXPECT_THAT(server_->url(), testing::StartsWith("https://"));
  const std::string body(1'000'000, 'x');
  EXPECT_EQ(answer_text(client->call({.method = "POST", .path = "/echo", .body = body})), body);
  EXPECT_EQ(answer_text(client->call({.path = "/blob", .range = ByteRange{.first = 0, .end = 2}})), "01");
}

TEST_F(TlsTest, RefusesAnUntrustedCertificate) {
  start_tls();
  const auto answer = client_for(server_->url())->call({.path = "/blob"});
  EXPECT_EQ(kind_of(answer), ErrorKind::kUnavailable);
  EXPECT_THAT(answer_text(answer), HasSubstr("certificate"));
}

TEST_F(TlsTest, DropsAClientThatSpeaksPlainHttp) {
  start_tls();
  RawPeer peer = RawPeer::connect(server_->port());
  peer.send("GET /blob HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(peer.read_to_end(), testing::Not(HasSubstr("0123456789")));
  EXPECT_FALSE(peer.timed_out());
}

TEST_F(TlsTest, ServesACertificateThatHasChanged) {
  start_tls();
  namespace fs = std::filesystem;
  const auto next =
      testing_support::TlsIdentity::create(fs::path(testing::TempDir()) / fmt::format("celslm-tls3-{}", ::getpid()));
  ASSERT_TRUE(next);
  // Each time on a new connection.
  const auto is_trusted = [&] {
    return client_for(server_->url(), {.ca_file = next->certificate_file()})->call({.path = "/blob"}).has_value();
  };
  EXPECT_FALSE(is_trusted());
  fs::copy_file(next->certificate_file(), identity_->certificate_file(), fs::copy_options::overwrite_existing);
  fs::copy_file(next->key_file(), identity_->key_file(), fs::copy_options::overwrite_existing);
  EXPECT_TRUE(is_trusted());
}

TEST_F(TlsTest, RefusesAKeyOfAnotherCertificate) {
  start_tls();
  const auto other = testing_support::TlsIdentity::create(std::filesystem::path(testing::TempDir()) /
                                                          fmt::format("celslm-tls2-{}", ::getpid()));
  ASSERT_TRUE(other);
  const auto server = HttpServer::create(
      {.tls_certificate_file = identity_->certificate_file(), .tls_key_file = other->key_file()}, null_log());
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message, HasSubstr(other->key_file()));
}

}  // namespace
}  // namespace celslm
