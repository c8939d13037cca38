#include "net/http_server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <latch>
#include <stdexcept>
#include <thread>

#include "core/hash.h"
#include "net/http_limits.h"
#include "tests/support/eventually.h"
#include "tests/support/raw_socket.h"

namespace celslm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing_support::eventually;
using testing_support::RawPeer;

// A server with a few routes; tests add theirs before start().
class HttpServerTest : public testing::Test {
 protected:
  void make(HttpServerOptions options = {}) {
    auto server = HttpServer::create(options, null_log());
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
    server_->route("GET", "/health", [](const HttpRequest&) { return HttpResponse{.body = "{}"}; });
    server_->route("POST", "/echo",
                   [](const HttpRequest& r) { return HttpResponse{.content_type = "text/plain", .body = r.body}; });
    server_->route("GET", "/client", [](const HttpRequest& r) { return HttpResponse{.body = r.client}; });
    server_->route("GET", "/items/:id/parts/:part", [](const HttpRequest& r) {
      std::string out;
      for (const auto& [name, value] : r.parameters) out += name + "=" + value + ";";
      return HttpResponse{.content_type = "text/plain", .body = out};
    });
  }
  void start() {
    const Status status = server_->start();
    ASSERT_TRUE(status) << status.error().message;
  }
  // Sends the bytes on a new connection and returns everything up to its end.
  std::string exchange(std::string_view bytes) {
    RawPeer peer = RawPeer::connect(server_->port());
    peer.send(bytes);
    std::string out = peer.read_to_end();
    EXPECT_FALSE(peer.timed_out()) << "the connection stayed open after: " << bytes.substr(0, 200);
    return out;
  }
  std::unique_ptr<HttpServer> server_;
};

constexpr const char* kClose = "Host: x\r\nConnection: close\r\n\r\n";

struct Exchange {
  const char* name;
  std::string request;
  std::vector<std::string> answer_has;
};

void PrintTo(const Exchange& e, std::ostream* out) {
  *out << e.name;
}

class HttpTableTest : public HttpServerTest, public testing::WithParamInterface<Exchange> {};

TEST_P(HttpTableTest, GetsTheExpectedResponse) {
  make({.max_body_bytes = 1000, .read_timeout = milliseconds(2000)});
  start();
  const std::string answer = exchange(GetParam().request);
  for (const std::string& part : GetParam().answer_has) EXPECT_THAT(answer, HasSubstr(part));
}

const std::string kEnd = std::string(kClose);

INSTANTIATE_TEST_SUITE_P(
    Http, HttpTableTest,
    testing::Values(
        Exchange{"Get",
                 "GET /health HTTP/1.1\r\n" + kEnd,
                 {"HTTP/1.1 200 OK\r\n", "Content-Type: application/json", "\r\n\r\n{}"}},
        Exchange{"Head", "HEAD /health HTTP/1.1\r\n" + kEnd, {"HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n"}},
        Exchange{"OldHttp", "GET /health HTTP/1.0\r\n\r\n", {"200 OK\r\n", "Connection: close", "\r\n\r\n{}"}},
        Exchange{"PathParameters",
                 "GET /items/a%2Fb/parts/2?part=9&q=x+y%21&q=z&&e HTTP/1.1\r\n" + kEnd,
                 {"e=;id=a/b;part=2;q=x y!;"}},
        Exchange{
            "BodyByLength", "POST /echo HTTP/1.1\r\nContent-Length: 5\r\n" + kEnd + "hello", {"200 OK", "\r\n\r\nhello"}},
        Exchange{"BodyInChunks",
                 "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + kEnd + "5\r\nhello\r\n3\r\n ho\r\n0\r\n\r\n",
                 {"200 OK", "\r\n\r\nhello ho"}},
        Exchange{
            "FormIsJustABody",
            "POST /echo HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n" + kEnd + "a=b",
            {"200 OK", "\r\n\r\na=b"}},
        Exchange{
            "MultipartIsJustABody",
            "POST /echo HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=q\r\nContent-Length: 4\r\n" + kEnd + "--q\n",
            {"200 OK", "\r\n\r\n--q\n"}},
        Exchange{"ExpectContinue",
                 "POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + kEnd + "hi",
                 {"HTTP/1.1 100 Continue\r\n\r\n", "200 OK", "\r\n\r\nhi"}},
        Exchange{"Pipelined",
                 "GET /health HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nContent-Length: 3\r\n" + kEnd + "two",
                 {"\r\n\r\n{}HTTP/1.1 200 OK", "\r\n\r\ntwo"}},
        Exchange{"PipelinedAfterAnError",
                 "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\n" + kEnd,
                 {"404 Not Found", "\r\n\r\n{}"}},
        Exchange{
            "NoSuchPath", "GET /nowhere HTTP/1.1\r\n" + kEnd, {"404 Not Found", R"({"error":{"message":"no such path"}})"}},
        Exchange{"EmptySegment", "GET /items//parts/1 HTTP/1.1\r\n" + kEnd, {"404 Not Found"}},
        Exchange{"WrongMethod",
                 "DELETE /health HTTP/1.1\r\n" + kEnd,
                 {"405 Method Not Allowed", "Allow: GET\r\n", R"({"error")"}},
        Exchange{"UnknownMethod", "BREW /health HTTP/1.1\r\n" + kEnd, {"405 Method Not Allowed", R"({"error")"}},
        Exchange{"Trace", "TRACE /health HTTP/1.1\r\n" + kEnd, {"405 Method Not Allowed", R"({"error")"}},
        Exchange{"NotHttp", "hello\r\n\r\n", {"400 Bad Request", R"({"error")"}},
        Exchange{"OtherVersion", "GET / HTTP/2.0\r\n" + kEnd, {"400 Bad Request"}},
        Exchange{"HeaderWithoutColon", "GET /health HTTP/1.1\r\nnonsense\r\n" + kEnd, {"400 Bad Request"}},
        Exchange{"HeaderWithSpaceInName", "GET /health HTTP/1.1\r\nA b: c\r\n" + kEnd, {"400 Bad Request"}},
        Exchange{"HeaderWithEscapedLineEnd", "GET /health HTTP/1.1\r\nA: b%0d%0aC: d\r\n" + kEnd, {"200 OK"}},
        Exchange{"BrokenEscapeInPath", "GET /items/%zz/parts/1 HTTP/1.1\r\n" + kEnd, {"400 Bad Request"}},
        Exchange{"ControlCharacterInPath", "GET /items/%00/parts/1 HTTP/1.1\r\n" + kEnd, {"400 Bad Request"}},
        Exchange{"PathWithoutSlash", "GET health HTTP/1.1\r\n" + kEnd, {"400 Bad Request"}},
        Exchange{"EndlessPath", "GET /" + std::string(5000, 'a') + " HTTP/1.1\r\n" + kEnd, {"414 ", R"({"error")"}},
        Exchange{"EndlessRequestLine", "GET /" + std::string(70000, 'a'), {"414 ", R"({"error")"}},
        Exchange{"EndlessHeader", "GET /health HTTP/1.1\r\nA: " + std::string(70000, 'a'), {"431 ", R"({"error")"}},
        Exchange{"ThousandsOfSlashes", "GET " + std::string(3000, '/') + " HTTP/1.1\r\n" + kEnd, {"400 Bad Request"}},
        Exchange{"LengthAndChunked",
                 "POST /echo HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n" + kEnd + "0\r\n\r\n",
                 {"400 Bad Request"}},
        Exchange{"TwoLengths",
                 "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + kEnd + "ab",
                 {"400 Bad Request"}},
        Exchange{"NegativeLength", "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n" + kEnd, {"400 Bad Request"}},
        Exchange{"LengthInHex", "POST /echo HTTP/1.1\r\nContent-Length: 0x5\r\n" + kEnd + "hello", {"400 Bad Request"}},
        Exchange{
            "AbsurdLength", "POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n" + kEnd, {"400 Bad Request"}},
        Exchange{
            "OtherEncoding", "POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" + kEnd + "0\r\n\r\n", {"501 "}},
        Exchange{
            "BadChunkSize", "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + kEnd + "zz\r\n", {"400 Bad Request"}},
        Exchange{"CompressedBody",
                 "POST /echo HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n" + kEnd + "xx",
                 {"415 "}},
        Exchange{"BodyOverTheLimit", "POST /echo HTTP/1.1\r\nContent-Length: 1001\r\n" + kEnd, {"413 ", R"({"error")"}},
        Exchange{"ChunksOverTheLimit",
                 "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + kEnd + "800\r\n" + std::string(0x800, 'x') +
                     "\r\n0\r\n\r\n",
                 {"413 ", R"({"error")"}},
        Exchange{"ExpectThatIsRefused",
                 "POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n" + kEnd,
                 {"HTTP/1.1 413 "}},
        Exchange{
            "RangeOfAnAnswerWithoutRanges", "GET /health HTTP/1.1\r\nRange: bytes=x\r\n" + kEnd, {"200 OK", "\r\n\r\n{}"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(HttpServerTest, AcceptsARequestThatArrivesByteByByte) {
  make();
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  const std::string request = "POST /echo HTTP/1.1\r\nContent-Length: 5\r\n" + kEnd + "hello";
  for (const char c : request) ASSERT_TRUE(peer.send({&c, 1}));
  EXPECT_THAT(peer.read_to_end(), HasSubstr("\r\n\r\nhello"));
}

const std::string kGetStream = "GET /stream HTTP/1.1\r\n" + kEnd;

TEST_F(HttpServerTest, StreamsInChunksWhenTheLengthIsUnknown) {
  make();
  server_->route("GET", "/stream", [](const HttpRequest&) {
    return HttpResponse{.content_type = "text/event-stream",
                        .stream = [](const BodySink& sink) { return sink("one") && sink("") && sink("two"); }};
  });
  start();
  const std::string answer = exchange("GET /stream HTTP/1.1\r\nAccept-Encoding: gzip, br\r\n" + kEnd);
  EXPECT_THAT(answer, HasSubstr("Transfer-Encoding: chunked"));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"));
}

TEST_F(HttpServerTest, StreamsWithALengthWhenItIsKnown) {
  make();
  server_->route("GET", "/stream", [](const HttpRequest&) {
    return HttpResponse{.stream = [](const BodySink& sink) { return sink("one") && sink("two"); }, .content_length = 6};
  });
  start();
  const std::string answer = exchange(kGetStream);
  EXPECT_THAT(answer, HasSubstr("Content-Length: 6\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\nonetwo"));
}

TEST_F(HttpServerTest, KeepsTheConnectionAfterACompleteStream) {
  make();
  server_->route("GET", "/stream",
                 [](const HttpRequest&) { return HttpResponse{.stream = [](const BodySink& sink) { return sink("x"); }}; });
  start();
  EXPECT_THAT(exchange("GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\n" + kEnd), HasSubstr("\r\n\r\n{}"));
}

TEST_F(HttpServerTest, HidesABodyOfHead) {
  make();
  server_->route("GET", "/stream", [](const HttpRequest&) {
    return HttpResponse{.stream = [](const BodySink& sink) { return sink("body"); }, .content_length = 4};
  });
  start();
  EXPECT_THAT(exchange("HEAD /stream HTTP/1.1\r\n" + kEnd), testing::EndsWith("\r\n\r\n"));
}

struct BrokenStream {
  const char* name;
  std::function<bool(const BodySink&)> stream;
  std::optional<std::uint64_t> content_length;
};

void PrintTo(const BrokenStream& b, std::ostream* out) {
  *out << b.name;
}

class BrokenStreamTest : public HttpServerTest, public testing::WithParamInterface<BrokenStream> {};

TEST_P(BrokenStreamTest, BreaksTheConnectionAndDoesNotEndTheBody) {
  make();
  server_->route("GET", "/stream", [](const HttpRequest&) {
    return HttpResponse{.stream = GetParam().stream, .content_length = GetParam().content_length};
  });
  start();
  const std::string answer = exchange("GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("part"));
  EXPECT_THAT(answer, Not(HasSubstr("0\r\n\r\n")));
  EXPECT_THAT(answer, Not(HasSubstr("{}"))) << "the connection was reused";
}

INSTANTIATE_TEST_SUITE_P(
    Http, BrokenStreamTest,
    testing::Values(BrokenStream{"Fails", [](const BodySink& sink) { return sink("part") && false; }, std::nullopt},
                    BrokenStream{"FailsWithLength", [](const BodySink& sink) { return sink("part") && false; }, 100},
                    BrokenStream{"FailsAtItsLength", [](const BodySink& sink) { return sink("part") && false; }, 4},
                    BrokenStream{"Throws",
                                 [](const BodySink& sink) -> bool {
                                   sink("part");
                                   throw std::runtime_error("no");
                                 },
                                 std::nullopt},
                    BrokenStream{"ThrowsNoException",
                                 [](const BodySink& sink) -> bool {
                                   sink("part");
                                   throw 1;
                                 },
                                 std::nullopt},
                    BrokenStream{"EndsShort", [](const BodySink& sink) { return sink("part"); }, 5},
                    BrokenStream{"RunsOver",
                                 [](const BodySink& sink) {
                                   sink("part");
                                   sink("more");
                                   return true;
                                 },
                                 5}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(HttpServerTest, ResetsAnHttp10ClientWhoseStreamFails) {
  make();
  server_->route("GET", "/stream", [](const HttpRequest&) {
    return HttpResponse{.stream = [](const BodySink& sink) { return sink("part") && false; }};
  });
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  peer.send("GET /stream HTTP/1.0\r\n\r\n");
  EXPECT_THAT(peer.read_to_end(), Not(HasSubstr("chunked")));
  EXPECT_TRUE(peer.was_reset());
}

TEST_F(HttpServerTest, RespondsWith500WhenAHandlerThrows) {
  make();
  server_->route("GET", "/throw", [](const HttpRequest&) -> HttpResponse { throw std::runtime_error("secret detail"); });
  server_->route("GET", "/throw-int", [](const HttpRequest&) -> HttpResponse { throw 1; });
  start();
  const std::string answer = exchange("GET /throw HTTP/1.1\r\n" + kEnd);
  EXPECT_THAT(answer, HasSubstr("500 Internal Server Error"));
  EXPECT_THAT(answer, HasSubstr(R"({"error")"));
  EXPECT_THAT(answer, Not(HasSubstr("secret")));
  EXPECT_THAT(exchange("GET /throw-int HTTP/1.1\r\n" + kEnd), HasSubstr("500 Internal Server Error"));
}

TEST_F(HttpServerTest, PassesTheHandlersOwnErrorsThrough) {
  make();
  server_->route("GET", "/teapot",
                 [](const HttpRequest&) { return HttpResponse{.status = 418, .headers = {{"X-A", "b"}}, .body = "short"}; });
  start();
  const std::string answer = exchange("GET /teapot HTTP/1.1\r\n" + kEnd);
  EXPECT_THAT(answer, HasSubstr("418 "));
  EXPECT_THAT(answer, HasSubstr("X-A: b\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\nshort"));
}

TEST_F(HttpServerTest, FormatsErrorsAsConfigured) {
  make();
  server_->on_error([](int status, std::string_view message, std::string_view) {
    return HttpResponse{.status = status, .content_type = "text/plain", .body = fmt::format("<{}|{}>", status, message)};
  });
  start();
  EXPECT_THAT(exchange("GET /nowhere HTTP/1.1\r\n" + kEnd), HasSubstr("\r\n\r\n<404|no such path>"));
  EXPECT_THAT(exchange("nonsense\r\n\r\n"), HasSubstr("<400|"));
  EXPECT_THAT(exchange("GET /" + std::string(70000, 'a')), HasSubstr("<414|"));
}

TEST_F(HttpServerTest, TellsARunningHandlerThatTheClientHasDisconnected) {
  make();
  std::latch started(1);
  std::atomic<bool> noticed{false};
  server_->route("POST", "/compute", [&](const HttpRequest& r) {
    EXPECT_FALSE(r.disconnected());
    started.count_down();
    noticed = eventually(r.disconnected);
    return HttpResponse{};
  });
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  peer.send("POST /compute HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
  started.wait();
  peer.close();
  server_->stop(seconds(20));
  EXPECT_TRUE(noticed);
}

TEST_F(HttpServerTest, DetectsADisconnectBehindPipelinedBytes) {
  make();
  std::latch started(1);
  std::atomic<bool> noticed{false};
  server_->route("GET", "/compute", [&](const HttpRequest& r) {
    started.count_down();
    noticed = eventually(r.disconnected);
    return HttpResponse{};
  });
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  peer.send("GET /compute HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  started.wait();
  peer.close();
  server_->stop(seconds(20));
  EXPECT_TRUE(noticed);
}

TEST_F(HttpServerTest, DisconnectedStaysSafeAfterTheRequest) {
  make();
  std::function<bool()> kept;
  server_->route("GET", "/keep", [&](const HttpRequest& r) {
    kept = r.disconnected;
    return HttpResponse{};
  });
  start();
  exchange("GET /keep HTTP/1.1\r\n" + kEnd);
  server_->stop(seconds(20));
  EXPECT_TRUE(kept());
}

TEST_F(HttpServerTest, EndsAStreamWhoseClientHasDisconnected) {
  make();
  std::atomic<bool> ended{false};
  server_->route("GET", "/stream", [&](const HttpRequest&) {
    return HttpResponse{.stream = [&](const BodySink& sink) {
      ended = eventually([&] { return !sink("data"); });
      return true;
    }};
  });
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  peer.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(peer.read_until("data"), HasSubstr("200 OK"));
  peer.close();
  EXPECT_TRUE(eventually([&] { return ended.load(); }));
}

TEST_F(HttpServerTest, CutsAClientThatDoesNotRead) {
  make({.write_timeout = milliseconds(50)});
  std::atomic<bool> ended{false};
  server_->route("GET", "/stream", [&](const HttpRequest&) {
    return HttpResponse{.stream = [&](const BodySink& sink) {
      ended = eventually([&] { return !sink(std::string(1U << 20, 'x')); });
      return true;
    }};
  });
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  peer.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return ended.load(); }));
}

TEST_F(HttpServerTest, StopLetsRunningRequestsEnd) {
  make();
  std::latch started(1);
  std::latch go_on(1);
  server_->route("GET", "/slow", [&](const HttpRequest&) {
    started.count_down();
    go_on.wait();
    return HttpResponse{.stream = [](const BodySink& sink) { return sink("all of it"); }, .content_length = 9};
  });
  start();
  RawPeer working = RawPeer::connect(server_->port());
  RawPeer idle = RawPeer::connect(server_->port());
  idle.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(idle.read_message(), HasSubstr("{}"));
  working.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  started.wait();
  std::jthread stopper([&] { server_->stop(seconds(20)); });
  EXPECT_EQ(idle.read_to_end(), "") << "an idle connection is closed immediately";
  EXPECT_FALSE(idle.timed_out());
  EXPECT_FALSE(connect_to("127.0.0.1", server_->port(), seconds(20))) << "the server no longer listens";
  go_on.count_down();
  const std::string answer = working.read_to_end();
  EXPECT_THAT(answer, HasSubstr("all of it"));
  EXPECT_THAT(answer, HasSubstr("Connection: close"));
}

TEST_F(HttpServerTest, StopAbortsWhatOutlastsTheGracePeriod) {
  make();
  std::latch started(1);
  std::atomic<bool> noticed{false};
  server_->route("GET", "/stream", [&](const HttpRequest& r) {
    return HttpResponse{.stream = [&](const BodySink& sink) {
      started.count_down();  // in the stream: a server that stops before it began would never call it
      noticed = eventually([&] { return !sink("data") && r.disconnected(); });
      return true;
    }};
  });
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  peer.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  std::jthread reader([&] { EXPECT_THAT(peer.read_to_end(), Not(testing::EndsWith("0\r\n\r\n"))); });
  started.wait();
  server_->stop(milliseconds(1));
  EXPECT_TRUE(noticed);
  server_->stop(milliseconds(1));
}

TEST_F(HttpServerTest, StopsWithoutHavingStarted) {
  make();
  server_->stop(milliseconds(0));
}

TEST_F(HttpServerTest, RequiresTheToken) {
  make({.bearer_token = "s3cret-Token"});
  start();
  const auto with = [&](const std::string& header) { return exchange("GET /items/1/parts/2 HTTP/1.1\r\n" + header + kEnd); };
  EXPECT_THAT(with(""), HasSubstr("401 Unauthorized"));
  EXPECT_THAT(with(""), HasSubstr("WWW-Authenticate: Bearer\r\n"));
  EXPECT_THAT(with("Authorization: Bearer s3cret-Toke\r\n"), HasSubstr("401 Unauthorized"));
  EXPECT_THAT(with("Authorization: Bearer s3cret-Token1\r\n"), HasSubstr("401 Unauthorized"));
  EXPECT_THAT(with("Authorization: Basic s3cret-Token\r\n"), HasSubstr("401 Unauthorized"));
  EXPECT_THAT(with("Authorization: bearer s3cret-Token\r\n"), HasSubstr("200 OK"));
  EXPECT_THAT(exchange("GET /nowhere HTTP/1.1\r\n" + kEnd), HasSubstr("401 Unauthorized"))
      << "without the token paths cannot be probed";
  EXPECT_THAT(exchange("GET /health HTTP/1.1\r\n" + kEnd), HasSubstr("200 OK"));
}

TEST_F(HttpServerTest, TellsHandlersWhoAsks) {
  make();
  start();
  EXPECT_THAT(exchange("GET /client HTTP/1.1\r\nAuthorization: Bearer anything\r\n" + kEnd), HasSubstr("address 127.0.0.1"));
  make({.bearer_token = "s3cret"});
  start();
  EXPECT_THAT(exchange("GET /client HTTP/1.1\r\nAuthorization: Bearer s3cret\r\n" + kEnd),
              HasSubstr("key " + hash_of("s3cret").hex()));
}

TEST_F(HttpServerTest, RefusesAnUnauthorizedBodyWithoutReadingIt) {
  make({.bearer_token = "t"});
  start();
  EXPECT_THAT(exchange("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"), HasSubstr("401 Unauthorized"));
}

TEST_F(HttpServerTest, AClientThatIsStillSendingCanReadTheRefusal) {
  make({.max_body_bytes = 1000});
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  peer.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n");
  peer.send(std::string(2'000'000, 'x'));
  EXPECT_THAT(peer.read_to_end(), StartsWith("HTTP/1.1 413 "));
}

TEST_F(HttpServerTest, AnswersHealthWhileHandlersHoldEveryThread) {
  make({.n_threads = 2, .max_queued = 0});
  std::latch started(2);
  std::latch go_on(1);
  server_->route("GET", "/stream", [&](const HttpRequest&) {
    return HttpResponse{.stream = [&](const BodySink& sink) {
      started.count_down();
      go_on.wait();
      return sink("end");
    }};
  });
  start();
  RawPeer a = RawPeer::connect(server_->port());
  RawPeer b = RawPeer::connect(server_->port());
  a.send(kGetStream);
  b.send(kGetStream);
  started.wait();
  EXPECT_THAT(exchange("GET /health HTTP/1.1\r\n" + kEnd), HasSubstr("200 OK"));
  const std::string refused = exchange(kGetStream);
  EXPECT_THAT(refused, HasSubstr("429 Too Many Requests"));
  EXPECT_THAT(refused, HasSubstr("Retry-After: 1\r\n"));
  go_on.count_down();
  EXPECT_THAT(a.read_to_end(), HasSubstr("end"));
  EXPECT_THAT(b.read_to_end(), HasSubstr("end"));
}

TEST_F(HttpServerTest, MakesRoomByEndingIdleConnections) {
  make({.max_connections = 4});
  start();
  std::vector<RawPeer> idle;
  for (int i = 0; i < 20; ++i) {
    idle.push_back(RawPeer::connect(server_->port()));
    idle.back().send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    ASSERT_THAT(idle.back().read_message(), HasSubstr("200 OK")) << "connection " << i;
  }
}

TEST_F(HttpServerTest, DoesNotWaitForeverForAHead) {
  make({.read_timeout = milliseconds(50)});
  start();
  EXPECT_EQ(exchange(""), "") << "a connection without a request";
  EXPECT_THAT(exchange("GET /hea"), StartsWith("HTTP/1.1 408 "));
  EXPECT_THAT(exchange("GET /health HTTP/1.1\r\nHost: "), StartsWith("HTTP/1.1 408 "));
}

TEST_F(HttpServerTest, DoesNotWaitForeverForABody) {
  make({.read_timeout = milliseconds(50)});
  start();
  EXPECT_THAT(exchange("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"), StartsWith("HTTP/1.1 408 "));
  EXPECT_THAT(exchange("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
              StartsWith("HTTP/1.1 408 "));
}

TEST_F(HttpServerTest, EndsAHeadThatArrivesTooSlowly) {
  make({.read_timeout = milliseconds(50)});
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  peer.send("GET /health HTTP/1.1\r\nA: ");
  EXPECT_TRUE(eventually([&] { return !peer.send("x"); }));
}

TEST_F(HttpServerTest, ServesManyConnectionsAtOnce) {
  make({.n_threads = 8});
  start();
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> clients;
    for (int c = 0; c < 6; ++c) {
      clients.emplace_back([&, c] {
        RawPeer peer = RawPeer::connect(server_->port());
        for (int i = 0; i < 50; ++i) {
          const std::string body = fmt::format("{}-{}", c, i);
          peer.send(fmt::format("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
          right += peer.read_message().ends_with("\r\n\r\n" + body) ? 1 : 0;
        }
      });
    }
  }
  EXPECT_EQ(right, 300);
}

TEST_F(HttpServerTest, ReportsThatThePortIsInUse) {
  make();
  start();
  auto second = HttpServer::create({.port = server_->port()}, null_log());
  ASSERT_TRUE(second);
  const Status status = (*second)->start();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(status.error().message,
            fmt::format("port {} on 127.0.0.1 is in use: choose another with --port", server_->port()));
}

TEST_F(HttpServerTest, ReportsItsUrl) {
  make();
  start();
  EXPECT_EQ(server_->url(), fmt::format("http://127.0.0.1:{}", server_->port()));
}

TEST(HttpServerOptionsTest, RejectsInvalidOptions) {
  const auto message = [](const HttpServerOptions& options) {
    const auto server = HttpServer::create(options, null_log());
    return server ? "created" : server.error().message;
  };
  EXPECT_THAT(message({.n_threads = 0}), HasSubstr("0 threads"));
  EXPECT_THAT(message({.bearer_token = "two words"}), HasSubstr("bearer token"));
  EXPECT_THAT(message({.tls_certificate_file = "a.pem"}), HasSubstr("both a certificate and its key"));
  EXPECT_THAT(message({.tls_certificate_file = "/none.pem", .tls_key_file = "/none.key"}), HasSubstr("/none.pem"));
}

}  // namespace
}  // namespace celslm
