// The list of contexts between a cloud and an edge's client, over real sockets: what it costs a link, and how soon it comes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

#include "net/http_client.h"
#include "serve/cloud/cloud_service.h"
#include "serve/wire/cloud_client.h"
#include "tests/support/fake_producer.h"
#include "tests/support/relay.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing_support::FakeProducer;
using testing_support::Relay;

class ListOverLinksTest : public testing::Test {
 protected:
  ListOverLinksTest() : folder_(std::filesystem::path(testing::TempDir()) / fmt::format("celslm-list-{}", ::getpid())) {
    std::filesystem::remove_all(folder_);
  }
  ~ListOverLinksTest() override {
    stop();
    std::filesystem::remove_all(folder_);
  }

  void start(double rate_mbit = 0) {
    service_ = *CloudService::create({.data_folder = folder_}, {std::make_shared<FakeProducer>()}, clock_, null_log());
    server_ = *HttpServer::create({}, null_log());
    service_->add_routes(*server_);
    ASSERT_TRUE(server_->start());
    relay_ = *Relay::start({.to_port = server_->port(), .rate_mbit = rate_mbit});
    client_ = std::make_unique<CloudClient>(*make_http_client({.base_url = relay_->url()}), std::nullopt, folder_ / "key",
                                            null_log());
  }
  void stop() {
    if (service_) service_->shutdown();
    if (server_) server_->stop(1s);
    client_.reset();
    relay_.reset();
    server_.reset();
    service_.reset();
  }
  // Registers without the link.
  ContextHandle put(const std::string& text) const {
    const auto http = *make_http_client({.base_url = server_->url()});
    const auto answer = http->call({.method = "POST", .path = "/v1/contexts", .body = json{{"text", text}}.dump()});
    EXPECT_TRUE(answer && answer->status == 200);
    return context_handle(text);
  }
  std::uint64_t moved() const { return relay_->bytes_up() + relay_->bytes_down(); }
  ContextList complete() {
    auto list = client_->contexts({});
    EXPECT_TRUE(list && *list) << list.error().message;
    return list && *list ? **std::move(list) : ContextList();
  }

  const std::filesystem::path folder_;
  const SystemClock clock_;
  std::unique_ptr<CloudService> service_;
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<Relay> relay_;
  std::unique_ptr<CloudClient> client_;
};

// A held request is renewed every 126 s at the earliest.
TEST_F(ListOverLinksTest, AnIdleEdgeCostsItsCloudLessThanAKilobyteAMinute) {
  start();
  put("one");
  const std::string revision = complete().revision;
  const std::uint64_t before = moved();
  constexpr int kRenewals = 3;
  for (int i = 0; i < kRenewals; ++i) {
    const auto held = client_->contexts({.since = revision, .wait = 1s});
    ASSERT_TRUE(held) << held.error().message;
    EXPECT_FALSE(*held);
  }
  const std::uint64_t each = (moved() - before) / kRenewals;
  EXPECT_GT(each, 100U);
  EXPECT_LT(each * 60 / 126, 1000U);
  RecordProperty("bytes_per_renewal", static_cast<int>(each));
}

TEST_F(ListOverLinksTest, AChangeEndsTheWaitAndIsAllThatCrossesTheLink) {
  start();
  for (int i = 0; i < 50; ++i) put(fmt::format("text {}", i));
  const ContextList known = complete();
  EXPECT_EQ(known.added.size(), 50U);
  const std::uint64_t before = moved();
  auto held = std::async(std::launch::async, [&] { return client_->contexts({.since = known.revision, .wait = 300s}); });
  const ContextHandle added = put("another");
  const auto changes = held.get();
  ASSERT_TRUE(changes && *changes) << changes.error().message;
  EXPECT_EQ((*changes)->since, known.revision);
  ASSERT_EQ((*changes)->added.size(), 1U);
  EXPECT_EQ((*changes)->added[0].handle, added);
  EXPECT_EQ((*changes)->n_contexts, 51U);
  EXPECT_LT(moved() - before, 1500U);
}

TEST_F(ListOverLinksTest, ARestartedCloudIsNoticed) {
  start();
  put("one");
  const ContextList known = complete();
  stop();
  start();
  const auto list = client_->contexts({.since = known.revision, .wait = 300s});
  ASSERT_TRUE(list && *list) << list.error().message;
  EXPECT_TRUE((*list)->complete());
  EXPECT_NE((*list)->revision, known.revision);
}

// The list has 50 KB: 7 seconds on this link, of which each has bytes.
TEST_F(ListOverLinksTest, AListThatTakesLongIsNotGivenUpWhileItComes) {
  start(0.064);
  for (int i = 0; i < 400; ++i) put(fmt::format("text {}", i));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(complete().added.size(), 400U);
  EXPECT_GT(std::chrono::steady_clock::now() - begin, 3s);
}

// Before there were revisions: an edge asked for the list and got all of it, whatever else the answer had.
TEST_F(ListOverLinksTest, AnEdgeOfBeforeGetsTheCompleteList) {
  start();
  put("one");
  const auto http = *make_http_client({.base_url = server_->url()});
  const auto answer = http->call({.path = "/v1/contexts"});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(json::parse(as_text(answer->body))["contexts"].size(), 1U);
  const std::string etag = answer->headers.at("etag");
  EXPECT_EQ(http->call({.path = "/v1/contexts", .headers = {{"if-none-match", etag}}})->status, 304);
  put("two");
  const auto changed = http->call({.path = "/v1/contexts", .headers = {{"if-none-match", etag}}});
  EXPECT_EQ(changed->status, 200);
  EXPECT_EQ(json::parse(as_text(changed->body))["contexts"].size(), 2U);
}

TEST_F(ListOverLinksTest, AWaitThatIsNoNumberIsRefused) {
  start();
  const auto http = *make_http_client({.base_url = server_->url()});
  for (const char* wait : {"-1", "x", "1x", "99999999999999999999"})
    EXPECT_EQ(http->call({.path = fmt::format("/v1/contexts?since=a&wait={}", wait)})->status, 400) << wait;
}

}  // namespace
}  // namespace celslm
