// An edge over real sockets: clients that leave, and many that wait, with one thread for all their requests.
#include <algorithm>
#include <vector>

#include "serve/edge/edge_test_support.h"
#include "tests/support/eventually.h"
#include "tests/support/raw_socket.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing_support::EdgeFixture;
using testing_support::json;
using testing_support::RawPeer;

class EdgeHttpTest : public EdgeFixture {
 protected:
  EdgeHttpTest() : edge_(edge({}, {.batch = {.max_running = 4, .max_queued = 100}})) {
    edge_->add_routes(*http_);
    EXPECT_TRUE(http_->start());
  }
  ~EdgeHttpTest() override { http_->stop(0ms); }

  RawPeer ask(bool stream, int max_tokens) {
    const std::string body = json{{"prompt", "hello"}, {"max_tokens", max_tokens}, {"stream", stream}}.dump();
    RawPeer peer = RawPeer::connect(http_->port());
    peer.send(fmt::format("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
    return peer;
  }
  static bool eventually(const std::function<bool()>& condition) { return testing_support::eventually(condition, 30s); }

  const std::unique_ptr<EdgeService> edge_;
  const std::unique_ptr<HttpServer> http_ = *HttpServer::create({.n_threads = 1}, null_log());
};

TEST_F(EdgeHttpTest, StreamsWhoseClientsResetAreCancelled) {
  std::vector<RawPeer> peers;
  for (int i = 0; i < 20; ++i) peers.push_back(ask(true, 1900));
  EXPECT_TRUE(eventually([&] { return edge_->requests_under_way() == 20; }));
  for (RawPeer& peer : peers) peer.reset();
  EXPECT_TRUE(eventually([&] { return edge_->requests_under_way() == 0; }));
  EXPECT_THAT(edge_->metrics().body, HasSubstr(R"(celslm_edge_requests_total{how="cancelled"} 20)"));
}

TEST_F(EdgeHttpTest, ClientsThatLeaveACompleteAnswerAreNoticed) {
  std::vector<RawPeer> peers;
  for (int i = 0; i < 20; ++i) peers.push_back(ask(false, 1900));
  EXPECT_TRUE(eventually([&] { return edge_->requests_under_way() == 20; }));
  for (int i = 0; i < 20; ++i)
    i % 2 ? peers[static_cast<std::size_t>(i)].reset() : peers[static_cast<std::size_t>(i)].close();
  EXPECT_TRUE(eventually([&] { return edge_->requests_under_way() == 0; }));
}

TEST_F(EdgeHttpTest, ManyWaitWithOneThread) {
  std::vector<RawPeer> peers;
  for (int i = 0; i < 60; ++i) peers.push_back(ask(i % 2 == 0, 3));
  for (int i = 0; i < 60; ++i) {
    RawPeer& peer = peers[static_cast<std::size_t>(i)];
    const std::string answer = i % 2 == 0 ? peer.read_until("[DONE]") : peer.read_message();
    EXPECT_THAT(answer, testing::AllOf(HasSubstr("200 OK"), HasSubstr("finish_reason")));
  }
}

// A page of a site whose name was made to lead to this box would read everything here.
TEST_F(EdgeHttpTest, ANameThatOthersMayOwnIsNotAnswered) {
  const auto asked_by = [&](const std::string& host) {
    RawPeer peer = RawPeer::connect(http_->port());
    peer.send("GET /v1/models HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n");
    return peer.read_to_end();
  };
  for (const char* host : {"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example."})
    EXPECT_THAT(asked_by(host), HasSubstr("403 Forbidden")) << host;
  for (const char* host : {"localhost:8080", "127.0.0.1:8080", "[::1]:8080", "edge", "app.localhost", "192.168.1.7"})
    EXPECT_THAT(asked_by(host), HasSubstr("200 OK")) << host;
}

}  // namespace
}  // namespace celslm
