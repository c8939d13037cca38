// What clients send and what they get, byte by byte, over a socket: tables that hold for any server behind HttpServer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <latch>
#include <string>
#include <vector>

#include "net/http_limits.h"
#include "net/http_server.h"
#include "tests/support/eventually.h"
#include "tests/support/raw_socket.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing_support::eventually;
using testing_support::RawPeer;

struct Row {
  const char* name;
  std::string request;
  std::vector<std::string> has;
  std::vector<std::string> lacks = {};
  std::vector<std::string> origins = {};  // allowed
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

class HttpRequestTest : public testing::TestWithParam<Row> {};

// Serves one request; the answer up to the connection's end.
std::string answer_to(const Row& row) {
  auto server = HttpServer::create(
      {.bearer_token = "t0", .open_paths = {"/health", "/items"}, .allowed_origins = row.origins}, null_log());
  if (!server) return server.error().message;
  const auto echo = [](const HttpRequest& r) {
    return HttpResponse{
        .content_type = "text/plain",
        .body = r.path + "|" + r.parameter("q") + "|" + r.header("x") + "|" + r.header("range") + "|" + r.body};
  };
  (*server)->route("GET", "/health", echo);
  (*server)->route("GET", "/", echo);
  (*server)->route("POST", "/items", echo);
  (*server)->route("POST", "/locked", echo);
  if (const Status started = (*server)->start(); !started) return started.error().message;
  RawPeer peer = RawPeer::connect((*server)->port());
  peer.send(row.request);
  std::string out = peer.read_to_end();
  EXPECT_FALSE(peer.timed_out()) << "the connection stayed open";
  return out;
}

TEST_P(HttpRequestTest, GetsTheExpectedAnswer) {
  const std::string answer = answer_to(GetParam());
  for (const std::string& part : GetParam().has) EXPECT_THAT(answer, HasSubstr(part));
  for (const std::string& part : GetParam().lacks) EXPECT_THAT(answer, Not(HasSubstr(part)));
}

std::string name_of(const testing::TestParamInfo<Row>& info) {
  return info.param.name;
}

const std::string kGet = "GET /health HTTP/1.1\r\n";
const std::string kEnd = "Host: here:8080\r\nConnection: close\r\n\r\n";

std::string fields(int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += "F" + std::to_string(i) + ": v\r\n";
  return out;
}

INSTANTIATE_TEST_SUITE_P(Heads, HttpRequestTest,
                         testing::Values(Row{"LongToken",
                                             kGet + "X: " + std::string(20'000, 'k') + "\r\n" + kEnd,
                                             {"200 OK", "|" + std::string(20'000, 'k') + "|"}},
                                         Row{"ManyFields", kGet + fields(250) + kEnd, {"200 OK"}},
                                         Row{"TooManyFields", kGet + fields(260) + kEnd, {"431 ", R"({"error")"}},
                                         Row{"HeadOverTheLimit",
                                             kGet + "X: " + std::string(kMaxHeadBytes, 'k') + "\r\n" + kEnd,
                                             {"431 ", R"({"error")"}},
                                         Row{"PercentInAValueStays", kGet + "X: %41\r\n" + kEnd, {"|%41|"}},
                                         Row{"EqualNamesAreJoined", kGet + "X: a\r\nx: b\r\n" + kEnd, {"|a, b|"}},
                                         Row{"WhiteSpaceAroundAValue", kGet + "X: \t a b \t\r\n" + kEnd, {"|a b|"}},
                                         Row{"EmptyLinesBefore", "\r\n\r\n" + kGet + kEnd, {"200 OK"}},
                                         Row{"FoldedValue", kGet + "X: a\r\n b\r\n" + kEnd, {"400 Bad Request"}},
                                         Row{"ControlCharacterInAValue", kGet + "X: a\x01z\r\n" + kEnd, {"400 Bad Request"}},
                                         Row{"LineFeedInAValue", kGet + "X: a\nY: b\r\n" + kEnd, {"400 Bad Request"}},
                                         Row{"SpaceBeforeColon", kGet + "X : a\r\n" + kEnd, {"400 Bad Request"}},
                                         Row{"NoName", kGet + ": a\r\n" + kEnd, {"400 Bad Request"}},
                                         Row{"TwoSpaces", "GET  /health HTTP/1.1\r\n" + kEnd, {"400 Bad Request"}},
                                         Row{"LowerCaseVersion", "GET /health http/1.1\r\n" + kEnd, {"400 Bad Request"}},
                                         Row{"CloseAmongOptions",
                                             kGet + "Connection: keep-alive, Close\r\nHost: x\r\n\r\n",
                                             {"200 OK", "Connection: close"}}),
                         name_of);

INSTANTIATE_TEST_SUITE_P(
    Targets, HttpRequestTest,
    testing::Values(
        Row{"Absolute", "GET http://here:8080/health?q=1 HTTP/1.1\r\n" + kEnd, {"200 OK", "/health|1|"}},
        Row{"AbsoluteInUpperCase", "GET HTTP://HERE/health HTTP/1.1\r\n" + kEnd, {"200 OK", "/health||"}},
        Row{"AbsoluteWithTls", "GET https://here/health HTTP/1.1\r\n" + kEnd, {"200 OK", "/health||"}},
        Row{"AbsoluteWithoutPath", "GET http://here HTTP/1.1\r\nAuthorization: Bearer t0\r\n" + kEnd, {"200 OK", "/||"}},
        Row{"AbsoluteQueryOnly", "GET http://here?q=1 HTTP/1.1\r\nAuthorization: Bearer t0\r\n" + kEnd, {"200 OK", "/|1|"}},
        // The token is asked for by path, whatever form the target has.
        Row{"AbsoluteNeedsTheToken", "POST http://here/locked HTTP/1.1\r\n" + kEnd, {"401 Unauthorized"}},
        Row{"AbsoluteWithoutHost", "GET http:///health HTTP/1.1\r\n" + kEnd, {"400 Bad Request"}},
        Row{"OtherScheme", "GET ftp://here/health HTTP/1.1\r\n" + kEnd, {"400 Bad Request"}},
        Row{"Authority", "GET here:8080 HTTP/1.1\r\n" + kEnd, {"400 Bad Request"}},
        Row{"AUrlInThePath", "GET /health?q=http://x/ HTTP/1.1\r\n" + kEnd, {"200 OK", "/health|http://x/|"}}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Ranges, HttpRequestTest,
    testing::Values(Row{"RangeArrives", kGet + "Range: bytes=1-2\r\n" + kEnd, {"200 OK", "|bytes=1-2|"}},
                    // No answer has a validator that If-Range could name, so the complete body is due.
                    Row{"IfRange", kGet + "Range: bytes=1-2\r\nIf-Range: \"v1\"\r\n" + kEnd, {"200 OK"}, {"bytes=1-2"}}),
    name_of);

const std::string kPost = "POST /items HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n";
const std::string kEvil = "Origin: https://evil.example\r\n";
const std::string kApp = "Origin: https://app.example\r\n";
const std::vector<std::string> kAllowed{"https://app.example"};

INSTANTIATE_TEST_SUITE_P(
    Origins, HttpRequestTest,
    testing::Values(
        Row{"PostWithoutOrigin", kPost + kEnd + "hi", {"200 OK", "|hi"}, {"Access-Control"}},
        Row{"PostFromAnotherSite", kPost + kEvil + kEnd + "hi", {"403 Forbidden", R"({"error")"}, {"|hi", "Access-Control"}},
        Row{"PostFromAFile", kPost + "Origin: null\r\n" + kEnd + "hi", {"403 Forbidden"}},
        Row{"PostFromTheSameOrigin", kPost + "Origin: http://here:8080\r\n" + kEnd + "hi", {"200 OK", "|hi"}},
        Row{"PostThroughATlsProxy", kPost + "Origin: https://HERE:8080\r\n" + kEnd + "hi", {"200 OK", "|hi"}},
        Row{"PostThroughAProxyThatRenames",
            kPost + "Origin: https://shown.example\r\nSec-Fetch-Site: same-origin\r\n" + kEnd + "hi",
            {"200 OK", "|hi"}},
        Row{"GetFromAnotherSite", kGet + kEvil + kEnd, {"200 OK"}, {"Access-Control"}},
        Row{"PostFromAnAllowedOrigin",
            kPost + kApp + kEnd + "hi",
            {"200 OK", "|hi", "Access-Control-Allow-Origin: https://app.example\r\n", "Vary: Origin"},
            {},
            kAllowed},
        Row{"PostFromOneThatIsNotAllowed",
            kPost + kEvil + kEnd + "hi",
            {"403 Forbidden", "Vary: Origin"},
            {"|hi"},
            kAllowed},
        Row{"PostFromAnywhere", kPost + kEvil + kEnd + "hi", {"200 OK", "Access-Control-Allow-Origin: *\r\n"}, {}, {"*"}},
        Row{"ErrorsAreReadable",
            "POST /locked HTTP/1.1\r\nContent-Length: 0\r\n" + kApp + kEnd,
            {"401 Unauthorized", "Access-Control-Allow-Origin: https://app.example\r\n"},
            {},
            kAllowed},
        Row{"Preflight",
            "OPTIONS /locked HTTP/1.1\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: "
            "authorization,content-type\r\n" +
                kApp + kEnd,
            {"204 No Content", "Access-Control-Allow-Origin: https://app.example\r\n",
             "Access-Control-Allow-Methods: GET, POST", "Access-Control-Allow-Headers: authorization,content-type\r\n",
             "Access-Control-Max-Age: 600\r\n"},
            {},
            kAllowed},
        Row{"PreflightFromAnotherSite",
            "OPTIONS /locked HTTP/1.1\r\nAccess-Control-Request-Method: POST\r\n" + kEvil + kEnd,
            {"403 Forbidden"},
            {"Access-Control-Allow"},
            kAllowed}),
    name_of);

TEST(HttpServerOriginTest, RefusesWhatIsNoOrigin) {
  for (const char* origin : {"app.example", "https://app.example/", "https://", "https://*.example", "https://a b", ""}) {
    const auto server = HttpServer::create({.allowed_origins = {origin}}, null_log());
    ASSERT_FALSE(server) << origin;
    EXPECT_THAT(server.error().message, HasSubstr("scheme://host[:port]"));
  }
}

TEST(HttpServerHostTest, TakesAnAddressAsUrlsWriteIt) {
  const auto server = *HttpServer::create({.host = "[::1]"}, null_log());
  const Status started = server->start();
  if (!started && started.error().message.contains("is not an address of this machine")) GTEST_SKIP() << "no IPv6 here";
  ASSERT_TRUE(started) << started.error().message;
  EXPECT_THAT(server->url(), testing::StartsWith("http://[::1]:"));
}

// --- who has gone ------------------------------------------------------------------------------------------------------

struct Leaving {
  const char* name;
  void (*leave)(RawPeer&);
  bool disconnected;
  bool unreachable;  // before anything is written
};

void PrintTo(const Leaving& leaving, std::ostream* out) {
  *out << leaving.name;
}

class LeavingTest : public testing::TestWithParam<Leaving> {};

TEST_P(LeavingTest, IsSeenByTheHandler) {
  const auto server = *HttpServer::create({}, null_log());
  std::atomic<bool> disconnected{false};
  std::atomic<bool> unreachable{false};
  std::latch entered(1);
  std::latch left(1);
  server->route("GET", "/work", [&](const HttpRequest& r) {
    EXPECT_FALSE(r.disconnected() || r.unreachable());
    entered.count_down();
    left.wait();
    disconnected = !GetParam().disconnected || eventually(r.disconnected);
    disconnected = disconnected && r.disconnected() == GetParam().disconnected;
    unreachable = r.unreachable();
    return HttpResponse{};
  });
  ASSERT_TRUE(server->start());
  RawPeer peer = RawPeer::connect(server->port());
  peer.send("GET /work HTTP/1.1\r\nHost: x\r\n\r\n");
  entered.wait();
  GetParam().leave(peer);
  left.count_down();
  server->stop(std::chrono::seconds(20));
  EXPECT_TRUE(disconnected);
  EXPECT_EQ(unreachable, GetParam().unreachable);
}

INSTANTIATE_TEST_SUITE_P(Http, LeavingTest,
                         testing::Values(Leaving{"Stays", [](RawPeer&) {}, false, false},
                                         Leaving{"Resets", [](RawPeer& p) { p.reset(); }, true, true},
                                         // The same bytes on the wire: only writing tells them apart.
                                         Leaving{"Closes", [](RawPeer& p) { p.close(); }, true, false},
                                         Leaving{"HalfCloses", [](RawPeer& p) { p.end_sending(); }, true, false}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(HalfClosedTest, ReadsAStreamToItsEnd) {
  const auto server = *HttpServer::create({}, null_log());
  std::latch half_closed(1);
  server->route("GET", "/stream", [&](const HttpRequest& r) {
    half_closed.wait();
    EXPECT_TRUE(eventually(r.disconnected));
    return HttpResponse{.stream = [](const BodySink& sink) { return sink("one") && sink("two"); }};
  });
  ASSERT_TRUE(server->start());
  RawPeer peer = RawPeer::connect(server->port());
  peer.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  peer.end_sending();
  half_closed.count_down();
  EXPECT_THAT(peer.read_to_end(), HasSubstr("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"));
}

TEST(ClosedTest, BecomesUnreachableOnceItIsWrittenTo) {
  const auto server = *HttpServer::create({}, null_log());
  std::latch closed(1);
  std::atomic<bool> noticed{false};
  server->route("GET", "/stream", [&](const HttpRequest& r) {
    return HttpResponse{.stream = [&, unreachable = r.unreachable](const BodySink& sink) {
      closed.wait();
      return sink(": there?\n\n") && (noticed = eventually(unreachable)) && false;
    }};
  });
  ASSERT_TRUE(server->start());
  RawPeer peer = RawPeer::connect(server->port());
  peer.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
  peer.read_until("\r\n\r\n");
  peer.close();
  closed.count_down();
  server->stop(std::chrono::seconds(20));
  EXPECT_TRUE(noticed);
}

}  // namespace
}  // namespace celslm
