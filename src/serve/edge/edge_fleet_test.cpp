#include "serve/edge/edge_fleet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>

#include "tests/support/local_net.h"
#include "tests/support/manual_clock.h"
#include "tests/support/memory_store.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

const Hash256 kModel = hash_of("model");
const ContextHandle kContext = context_handle("text");

class EdgeFleetTest : public testing::Test {
 protected:
  EdgeFleetTest() {
    EdgeFleetParts parts{.cloud = client("local://cloud"),
                         .known_urls = {"http://cloud:1", "http://peer:1"},
                         .model = kModel,
                         .connect = [this](const NodeRecord& node) -> Result<std::shared_ptr<CloudClient>> {
                           ++connected_;
                           return client(node.url);
                         },
                         .describe = [] { return NodeRecord{.models = {kModel}, .running = 1}; },
                         .held = [] { return std::vector<HeldPack>{{kContext, kModel}}; }};
    fleet_ = std::make_unique<EdgeFleet>(FleetParts{.store = std::make_unique<MemoryStore>(server_), .member = {.id = "me"}},
                                         std::move(parts), clock_, null_log());
  }
  ~EdgeFleetTest() override { fleet_->stop(); }

  std::shared_ptr<CloudClient> client(const std::string& url) {
    PublicKey key;
    key.bytes.fill(7);
    return std::make_shared<CloudClient>(std::make_unique<LocalClient>(servers_.emplace_back(url)), key, "", null_log());
  }
  // Another node of the fleet, which beats once.
  void add(NodeRecord record, std::vector<HeldPack> held) {
    PublicKey key;
    key.bytes.fill(7);
    const std::string id = record.id;
    auto& member = others_.emplace_back(std::make_unique<Member>(
        std::make_unique<MemoryStore>(server_),
        [record = std::move(record), held = std::move(held), name = fleet_name(key.hex())]() -> std::optional<FleetSelf> {
          return FleetSelf{.fleet = name, .record = record, .held = held};
        },
        clock_, null_log(), MemberOptions{.id = id}));
    ASSERT_TRUE(member->beat());
  }
  void start() {
    fleet_->start("http://me:1");
    clock_.wait_for_sleepers(1);  // its first beat is done
  }
  std::vector<std::string> sources(bool cloud_is_gone = false) {
    std::vector<std::string> out;
    for (const FurtherSource& source : fleet_->sources(kContext, cloud_is_gone)) out.push_back(source.client->url());
    std::ranges::sort(out);
    return out;
  }

  using Urls = std::vector<std::string>;
  const std::vector<HeldPack> holds_it_{{kContext, kModel}};
  ManualClock clock_;
  std::shared_ptr<MemoryServer> server_ = std::make_shared<MemoryServer>(clock_);
  std::list<LocalServer> servers_;
  std::vector<std::unique_ptr<Member>> others_;
  int connected_ = 0;
  std::unique_ptr<EdgeFleet> fleet_;
};

TEST_F(EdgeFleetTest, AsksThoseThatHoldTheContextForItsModel) {
  add({.id = "a", .url = "http://a:1", .models = {kModel}}, holds_it_);
  add({.id = "b", .url = "http://b:1", .models = {kModel}}, {{context_handle("another text"), kModel}});
  add({.id = "c", .url = "http://c:1", .models = {kModel}}, {{kContext, hash_of("another model")}});
  start();
  EXPECT_EQ(sources(), Urls{"http://a:1"});
  EXPECT_EQ(sources(), Urls{"http://a:1"});
  EXPECT_EQ(connected_, 1);
}

TEST_F(EdgeFleetTest, AsksNobodyTwiceAndNotItself) {
  add({.id = "cloud", .role = NodeRole::kCloud, .url = "http://cloud:1"}, holds_it_);
  add({.id = "peer", .url = "http://peer:1"}, holds_it_);
  add({.id = "mirror", .url = "http://me:1"}, holds_it_);
  start();
  EXPECT_EQ(sources(), Urls{});
}

TEST_F(EdgeFleetTest, AsksNoMoreThanTwo) {
  for (const char* id : {"a", "b", "c", "d", "e"}) add({.id = id, .url = std::string("http://") + id + ":1"}, holds_it_);
  start();
  EXPECT_EQ(sources().size(), EdgeFleet::kMaxSources);
}

TEST_F(EdgeFleetTest, OfTwoTheLessBusyOneComesFirst) {
  add({.id = "busy", .url = "http://busy:1", .running = 8, .queued = 20, .places = 8}, holds_it_);
  add({.id = "idle", .url = "http://idle:1", .places = 8}, holds_it_);
  start();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(fleet_->sources(kContext, false).front().client->url(), "http://idle:1");
}

TEST_F(EdgeFleetTest, AsksAnotherCloudOnlyWhileItsOwnIsGone) {
  add({.id = "other", .role = NodeRole::kCloud, .url = "http://other:1", .models = {kModel}}, {});
  add({.id = "small", .role = NodeRole::kCloud, .url = "http://small:1", .models = {hash_of("another model")}}, {});
  start();
  EXPECT_EQ(sources(), Urls{});
  EXPECT_EQ(sources(true), Urls{"http://other:1"});
  EXPECT_TRUE(fleet_->sources(kContext, true).front().is_cloud);
}

TEST_F(EdgeFleetTest, WhatMostEdgesHoldIsMostPopular) {
  const ContextHandle other = context_handle("another text");
  add({.id = "a", .url = "http://a:1"}, {{other, kModel}});
  add({.id = "b", .url = "http://b:1"}, {{kContext, kModel}, {other, kModel}});
  add({.id = "c", .url = "http://c:1"}, {{kContext, hash_of("another model")}});
  add({.id = "d", .role = NodeRole::kCloud, .url = "http://d:1"}, holds_it_);
  EXPECT_EQ(fleet_->popular(), std::nullopt);  // nobody has been heard of yet
  start();
  EXPECT_EQ(fleet_->popular(), (std::vector<ContextHandle>{other, kContext}));
}

TEST_F(EdgeFleetTest, TellsTheOthersWhereItIsAndWhatItHas) {
  start();
  add({.id = "a", .url = "http://a:1"}, {});
  const auto view = others_.front()->view();
  ASSERT_EQ(view->nodes.size(), 1U);
  EXPECT_EQ(view->nodes[0].record.url, "http://me:1");
  EXPECT_EQ(view->nodes[0].record.running, 1);
  EXPECT_TRUE(holds(*view->nodes[0].held, {kContext, kModel}));
}

}  // namespace
}  // namespace celslm
