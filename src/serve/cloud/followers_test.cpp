// Many clients that follow one pack while it is computed, over real sockets.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "core/file.h"
#include "net/http_server.h"
#include "serve/cloud/cloud_service.h"
#include "tests/support/fake_producer.h"
#include "tests/support/random_model.h"
#include "tests/support/raw_socket.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;
using testing_support::FakeProducer;
using testing_support::RawPeer;
using testing_support::TemporaryFolder;

constexpr int kFollowers = 300;

// A cloud with one thread for handlers, and a pack of it that waits for its first layer.
class FollowersTest : public testing::Test {
 protected:
  FollowersTest() {
    producer_->hold();
    service_ = *CloudService::create({.data_folder = folder_ / "cloud"}, {producer_}, clock_, null_log());
    service_->add_routes(*server_);
    EXPECT_TRUE(server_->start());
    const std::string text(600, 'x');
    ask("POST /v1/contexts", R"({"text":")" + text + R"("})");
    pack_ = pack_path(context_handle(text), producer_->model().fingerprint.id(), "f16", "");
    EXPECT_THAT(ask("GET " + pack_ + "header"), HasSubstr("202 Accepted"));
  }
  ~FollowersTest() override {
    service_->shutdown();
    server_->stop(1s);
  }

  RawPeer send(const std::string& request, const std::string& body = "") {
    RawPeer peer = RawPeer::connect(server_->port());
    peer.send(fmt::format("{} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", request, body.size(), body));
    return peer;
  }
  std::string ask(const std::string& request, const std::string& body = "") { return send(request, body).read_message(); }
  std::vector<RawPeer> followers() {
    std::vector<RawPeer> out;
    for (int i = 0; i < kFollowers; ++i) out.push_back(send("GET " + pack_ + "entries?from=0"));
    for (RawPeer& peer : out) EXPECT_THAT(peer.read_until("\r\n\r\n"), HasSubstr("200 OK"));
    return out;
  }

  const TemporaryFolder folder_;
  const SystemClock clock_;
  const std::shared_ptr<FakeProducer> producer_ = std::make_shared<FakeProducer>();
  const std::unique_ptr<HttpServer> server_ = *HttpServer::create({.n_threads = 1}, null_log());
  std::unique_ptr<CloudService> service_;
  std::string pack_;
};

TEST_F(FollowersTest, AllGetTheSameEntriesAndOthersAreAnsweredMeanwhile) {
  auto peers = followers();
  EXPECT_THAT(ask("GET /v1/key"), HasSubstr("public_key"));
  producer_->allow(FakeProducer::kLayers);
  const std::string first = peers.front().read_until("\r\n0\r\n\r\n");
  EXPECT_GT(first.size(), kSignedEntryBytes);
  std::size_t n_same = 0;
  const auto entries = [](std::string chunks) {  // the bytes without the chunks' frames, which may differ
    std::string out;
    while (!chunks.starts_with("0\r\n") && chunks.contains("\r\n")) {
      const std::size_t size = std::stoul(chunks, nullptr, 16);
      const std::size_t begin = chunks.find("\r\n") + 2;
      out += chunks.substr(begin, size);
      chunks.erase(0, begin + size + 2);
    }
    return out;
  };
  for (std::size_t i = 1; i < peers.size(); ++i)
    n_same += entries(peers[i].read_until("\r\n0\r\n\r\n")) == entries(first) ? 1 : 0;
  EXPECT_EQ(n_same, peers.size() - 1);
  EXPECT_THAT(ask("GET " + pack_ + "header"), HasSubstr("200 OK")) << "an orderly end promises the header";
}

TEST_F(FollowersTest, AreLetGoWhenTheComputationFails) {
  auto peers = followers();
  producer_->fail_next({ErrorKind::kInternal, "no"});
  for (RawPeer& peer : peers) EXPECT_THAT(peer.read_to_end(), Not(HasSubstr("0\r\n\r\n")));
}

TEST_F(FollowersTest, ThoseThatLeaveAreForgotten) {
  auto peers = followers();
  for (int i = 0; i < kFollowers; ++i) {
    if (i % 2 == 0) peers[static_cast<std::size_t>(i)].close();
    if (i % 2 == 1) peers[static_cast<std::size_t>(i)].reset();
  }
  producer_->allow(FakeProducer::kLayers);
  EXPECT_THAT(send("GET " + pack_ + "entries?from=0").read_until("\r\n0\r\n\r\n"), HasSubstr("200 OK"));
}

}  // namespace
}  // namespace celslm
