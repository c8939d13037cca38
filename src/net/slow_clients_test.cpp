// Clients that are slow, many, or gone, on purpose or not: what they cost others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/mutex.h"
#include "net/http_limits.h"
#include "net/http_server.h"
#include "net/http_stream.h"
#include "net/pulled_body.h"
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

class SlowClientsTest : public testing::Test {
 protected:
  void start(const HttpServerOptions& options) {
    server_ = *HttpServer::create(options, null_log());
    server_->route("GET", "/health", [](const HttpRequest&) { return HttpResponse{.body = "{}"}; });
    server_->route("GET", "/short", [](const HttpRequest&) { return HttpResponse{.body = "short"}; });
    server_->route("POST", "/echo", [](const HttpRequest& r) { return HttpResponse{.body = r.body}; });
    server_->route("GET", "/wait", [this](const HttpRequest&) {
      return HttpResponse{.pushed =
                              [this](std::shared_ptr<BodyWriter> body) {
                                const MutexLock lock(mutex_);
                                bodies_.push_back(std::move(body));
                              },
                          .filler = ": quiet\n\n"};
    });
    server_->route("GET", "/large", [](const HttpRequest&) {
      return HttpResponse{.pushed = pulled_body([left = 400]() mutable -> Result<std::optional<std::string>> {
                            if (left-- == 0) return std::nullopt;
                            return std::string(64U << 10, 'x');
                          })};
    });
    ASSERT_TRUE(server_->start());
  }
  RawPeer send(const std::string& bytes) {
    RawPeer peer = RawPeer::connect(server_->port());
    peer.send(bytes);
    return peer;
  }
  std::string get(const std::string& path) { return send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n").read_message(); }
  std::vector<std::shared_ptr<BodyWriter>> bodies() {
    const MutexLock lock(mutex_);
    return bodies_;
  }
  void forget_bodies() {
    const MutexLock lock(mutex_);
    bodies_.clear();
  }
  std::size_t n_bodies() {
    const MutexLock lock(mutex_);
    return bodies_.size();
  }
  bool all_gone() {
    const MutexLock lock(mutex_);
    return std::ranges::all_of(bodies_, [](const auto& body) { return body->gone(); });
  }

  Mutex mutex_;
  std::vector<std::shared_ptr<BodyWriter>> bodies_ CELSLM_GUARDED_BY(mutex_);
  std::unique_ptr<HttpServer> server_;
};

TEST_F(SlowClientsTest, HalfSentRequestsKeepNobodyOut) {
  start({.n_threads = 1});
  std::vector<RawPeer> slow;
  for (int i = 0; i < 300; ++i) slow.push_back(send("GET /health HTTP/1.1\r\nX: "));
  for (int i = 0; i < 300; ++i) slow.push_back(send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"));
  EXPECT_THAT(get("/short"), HasSubstr("short"));
}

TEST_F(SlowClientsTest, ClientsThatDoNotReadKeepNobodyOut) {
  start({.n_threads = 1});
  std::vector<RawPeer> slow;
  for (int i = 0; i < 30; ++i) slow.push_back(send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(get("/short"), HasSubstr("short"));
}

TEST_F(SlowClientsTest, WaitingStreamsOccupyNoThread) {
  start({.n_threads = 1});
  std::vector<RawPeer> waiting;
  for (int i = 0; i < 500; ++i) waiting.push_back(send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(eventually([&] { return n_bodies() == 500; }));
  EXPECT_THAT(get("/short"), HasSubstr("short"));
  for (const auto& body : bodies()) {
    EXPECT_TRUE(body->push("end"));
    body->end();
  }
  for (RawPeer& peer : waiting) EXPECT_THAT(peer.read_until("0\r\n\r\n"), HasSubstr("3\r\nend\r\n"));
}

TEST_F(SlowClientsTest, ResetsEndTheirStreamsAtOnce) {
  start({});
  std::vector<RawPeer> peers;
  for (int i = 0; i < 20; ++i) peers.push_back(send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(eventually([&] { return n_bodies() == 20; }));
  for (RawPeer& peer : peers) peer.reset();
  EXPECT_TRUE(eventually([&] { return all_gone(); }));
}

TEST_F(SlowClientsTest, AResetBehindManyPipelinedRequestsIsSeen) {
  start({});
  RawPeer peer = send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return n_bodies() == 1; }));
  for (int i = 0; i < 3000; ++i) peer.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  peer.reset();
  EXPECT_TRUE(eventually([&] { return all_gone(); }));
}

TEST_F(SlowClientsTest, AFillerFindsOutThatAClientHasClosed) {
  start({});
  RawPeer closes = send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return n_bodies() == 1; }));
  closes.close();
  EXPECT_TRUE(eventually([&] { return all_gone(); })) << "nothing was pushed";
}

TEST_F(SlowClientsTest, AFillerReachesAClientThatOnlyStoppedSending) {
  start({});
  RawPeer peer = send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return n_bodies() == 1; }));
  peer.end_sending();
  EXPECT_THAT(peer.read_until(": quiet\n\n\r\n"), HasSubstr(": quiet"));
  bodies().front()->push("data");
  EXPECT_THAT(peer.read_until("data"), HasSubstr("data"));
  EXPECT_FALSE(all_gone());
}

TEST_F(SlowClientsTest, ALargeBodyArrivesCompletely) {
  start({});
  RawPeer peer = send("GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answer = peer.read_to_end();
  EXPECT_EQ(std::ranges::count(answer, 'x'), 400 * (64 << 10));
  EXPECT_TRUE(answer.ends_with("0\r\n\r\n"));
}

TEST_F(SlowClientsTest, LargeBodiesShareAMemoryLimit) {
  start({.body_memory_bytes = 100'000});
  const auto post = [](std::size_t n) {
    return "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(n) + "\r\n\r\n";
  };
  RawPeer first = send(post(200'000) + std::string(150'000, 'a'));
  RawPeer second = send(post(200'000) + std::string(180'000, 'b'));
  EXPECT_THAT(second.read_to_end(), StartsWith("HTTP/1.1 429 "));
  RawPeer small = send(post(1000) + std::string(1000, 'c'));
  EXPECT_THAT(small.read_message(), StartsWith("HTTP/1.1 200 ")) << "small ones are not counted";
  first.reset();
  EXPECT_TRUE(eventually([&] { return send(post(90'000) + std::string(90'000, 'd')).read_message().contains("200 OK"); }));
}

TEST_F(SlowClientsTest, BeyondItsConnectionsTheServerRefusesWith429Once) {
  start({.max_connections = 2});
  std::vector<RawPeer> busy;
  for (int i = 0; i < 2; ++i) busy.push_back(send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(eventually([&] { return n_bodies() == 2; }));
  RawPeer refused = RawPeer::connect(server_->port());
  const std::string answer = refused.read_to_end();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 429 Too Many Requests\r\n"));
  const std::size_t first = answer.find("Retry-After");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(answer.find("Retry-After", first + 1), std::string::npos);
}

TEST_F(SlowClientsTest, AFullQueueIsAnsweredWith429) {
  std::latch go_on(1);
  std::atomic<int> started{0};
  server_ = *HttpServer::create({.n_threads = 1, .max_queued = 1}, null_log());
  server_->route("GET", "/slow", [&](const HttpRequest&) {
    ++started;
    go_on.wait();
    return HttpResponse{.body = "done"};
  });
  ASSERT_TRUE(server_->start());
  std::vector<RawPeer> peers;  // accepted in advance, so that their requests are seen in the order in which they are sent
  for (int i = 0; i < 3; ++i) {
    peers.push_back(send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_THAT(peers.back().read_message(), HasSubstr("404"));
  }
  for (RawPeer& peer : peers) {
    peer.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(eventually([&] { return started == 1; }));
  }
  EXPECT_THAT(peers[2].read_message(), StartsWith("HTTP/1.1 429 "));
  go_on.count_down();
  EXPECT_THAT(peers[0].read_message(), HasSubstr("done"));
  EXPECT_THAT(peers[1].read_message(), HasSubstr("done"));
}

TEST_F(SlowClientsTest, StopWaitsForPushedBodiesForItsGracePeriod) {
  start({});
  RawPeer peer = send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return n_bodies() == 1; }));
  std::jthread stopper([&] { server_->stop(seconds(20)); });
  EXPECT_TRUE(bodies().front()->push("last words"));
  bodies().front()->end();
  EXPECT_THAT(peer.read_to_end(), testing::EndsWith("last words\r\n0\r\n\r\n"));
}

TEST_F(SlowClientsTest, StopEndsWhatOutlastsItAndTellsTheProducer) {
  start({});
  RawPeer peer = send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return n_bodies() == 1; }));
  std::atomic<int> calls{0};
  bodies().front()->on_change([&] { ++calls; });
  server_->stop(milliseconds(1));
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(all_gone());
  EXPECT_THAT(peer.read_to_end(), Not(HasSubstr("0\r\n\r\n")));
  forget_bodies();  // long after the server: nothing to tell any more
}

TEST_F(SlowClientsTest, AProducerMayOutliveItsServer) {
  start({});
  RawPeer peer = send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return n_bodies() == 1; }));
  server_.reset();
  EXPECT_FALSE(bodies().front()->push("x"));
  bodies().front()->end();
}

}  // namespace
}  // namespace celslm
