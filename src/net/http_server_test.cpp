#include "net/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <mutex>
#include <thread>

#include "net/http_limits.h"
#include "tests/support/raw_socket.h"

namespace celslm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing_support::RawPeer;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

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
    EXPECT_FALSE(peer.guard_struck()) << "the connection stayed open after: " << bytes.substr(0, 200);
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

TEST_P(HttpTableTest, IsAnsweredAsTheTableSays) {
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
        Exchange{"HeaderWithEscapedLineEnd", "GET /health HTTP/1.1\r\nA: b%0d%0aC: d\r\n" + kEnd, {"400 Bad Request"}},
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
        Exchange{"MalformedRange", "GET /health HTTP/1.1\r\nRange: bytes=x\r\n" + kEnd, {"416 ", R"({"error")"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(HttpServerTest, TakesARequestThatArrivesByteByByte) {
  make();
  start();
  RawPeer peer = RawPeer::connect(server_->port());
  const std::string request = "POST /echo HTTP/1.1\r\nContent-Length: 5\r\n" + kEnd + "hello";
  for (const char c : request) ASSERT_TRUE(peer.send({&c, 1}));
  EXPECT_THAT(peer.read_to_end(), HasSubstr("\r\n\r\nhello"));
}

}  // namespace
}  // namespace celslm
