#include "fleet/directory/member.h"

#include <gtest/gtest.h>

#include "tests/support/manual_clock.h"
#include "tests/support/memory_store.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing_support::ManualClock;
using testing_support::MemoryServer;
using testing_support::MemoryStore;

const Hash256 kModel = hash_of("model");

// A node that a test describes, and beats by hand.
struct Node {
  FleetSelf self;
  bool ready = true;
  std::unique_ptr<Member> member;
};

class MemberTest : public testing::Test {
 protected:
  std::unique_ptr<Node> node(const std::string& id, std::vector<HeldPack> held = {}) {
    auto out = std::make_unique<Node>();
    out->self = {.fleet = "f00d",
                 .record = {.role = NodeRole::kEdge, .url = "http://10.0.0.1:8080", .models = {kModel}},
                 .held = std::move(held)};
    const auto describe = [node = out.get()]() -> std::optional<FleetSelf> {
      return node->ready ? std::optional(node->self) : std::nullopt;
    };
    out->member = std::make_unique<Member>(std::make_unique<MemoryStore>(server_), describe, clock_, null_log(),
                                           MemberOptions{.id = id});
    return out;
  }
  static std::vector<std::string> seen_by(const Node& node) {
    std::vector<std::string> out;
    for (const FleetNode& other : node.member->view()->nodes) out.push_back(other.record.id);
    std::ranges::sort(out);
    return out;
  }
  MemoryStore store() { return MemoryStore(server_); }

  using Ids = std::vector<std::string>;
  ManualClock clock_;
  std::shared_ptr<MemoryServer> server_ = std::make_shared<MemoryServer>(clock_);
};

TEST_F(MemberTest, NodesLearnOfEachOther) {
  const auto a = node("a");
  const auto b = node("b", {{hash_of("text"), kModel}});
  a->self.record.queued = 7;
  ASSERT_TRUE(a->member->beat());
  ASSERT_TRUE(b->member->beat());
  ASSERT_TRUE(a->member->beat());
  EXPECT_EQ(seen_by(*a), Ids{"b"});
  EXPECT_EQ(seen_by(*b), Ids{"a"});
  EXPECT_EQ(b->member->view()->nodes[0].record.queued, 7);
  EXPECT_TRUE(holds(*a->member->view()->nodes[0].held, {hash_of("text"), kModel}));
  EXPECT_TRUE(b->member->view()->nodes[0].held->empty());
}

TEST_F(MemberTest, ANodeThatCannotBeDescribedYetTakesNoPart) {
  const auto a = node("a");
  const auto b = node("b");
  a->ready = false;
  ASSERT_TRUE(a->member->beat());
  ASSERT_TRUE(b->member->beat());
  EXPECT_EQ(seen_by(*b), Ids{});
  EXPECT_FALSE(a->member->state().in_touch);
}

TEST_F(MemberTest, FleetsOfDifferentKeysDoNotSeeEachOther) {
  const auto a = node("a");
  const auto b = node("b");
  b->self.fleet = "beef";
  for (Node* each : {a.get(), b.get(), a.get()}) ASSERT_TRUE(each->member->beat());
  EXPECT_EQ(seen_by(*a), Ids{});
}

TEST_F(MemberTest, ANodeThatBeatsNoMoreIsGoneAfterItsLease) {
  const auto a = node("a");
  const auto b = node("b");
  ASSERT_TRUE(b->member->beat());
  ASSERT_TRUE(a->member->beat());
  clock_.advance(14s);
  ASSERT_TRUE(a->member->beat());
  EXPECT_EQ(seen_by(*a), Ids{"b"});
  clock_.advance(2s);
  ASSERT_TRUE(a->member->beat());
  EXPECT_EQ(seen_by(*a), Ids{});
  ASSERT_TRUE(b->member->beat());  // it was only stopped for a while
  ASSERT_TRUE(a->member->beat());
  EXPECT_EQ(seen_by(*a), Ids{"b"});
}

TEST_F(MemberTest, ANodeThatLeavesIsGoneAtOnce) {
  const auto a = node("a");
  const auto b = node("b");
  ASSERT_TRUE(b->member->beat());
  b->member->leave();
  ASSERT_TRUE(a->member->beat());
  EXPECT_EQ(seen_by(*a), Ids{});
}

TEST_F(MemberTest, AListIsReadAgainWhenItHasChanged) {
  const auto a = node("a");
  const auto b = node("b", {{hash_of("one"), kModel}});
  ASSERT_TRUE(b->member->beat());
  ASSERT_TRUE(a->member->beat());
  b->self.held = {{hash_of("two"), kModel}};
  ASSERT_TRUE(b->member->beat());
  ASSERT_TRUE(a->member->beat());
  EXPECT_FALSE(holds(*a->member->view()->nodes[0].held, {hash_of("one"), kModel}));
  EXPECT_TRUE(holds(*a->member->view()->nodes[0].held, {hash_of("two"), kModel}));
  b->self.held.clear();
  ASSERT_TRUE(b->member->beat());
  ASSERT_TRUE(a->member->beat());
  EXPECT_TRUE(a->member->view()->nodes[0].held->empty());
}

TEST_F(MemberTest, WhileTheStoreIsDownWhatIsKnownCounts) {
  const auto a = node("a");
  const auto b = node("b");
  ASSERT_TRUE(b->member->beat());
  ASSERT_TRUE(a->member->beat());
  server_->set_down(true);
  EXPECT_EQ(a->member->beat().error().kind, ErrorKind::kUnavailable);
  EXPECT_FALSE(a->member->state().in_touch);
  clock_.advance(9min);
  EXPECT_EQ(seen_by(*a), Ids{"b"});
  clock_.advance(2min);
  EXPECT_EQ(seen_by(*a), Ids{});
  server_->set_down(false);
  ASSERT_TRUE(b->member->beat());
  ASSERT_TRUE(a->member->beat());
  EXPECT_EQ(seen_by(*a), Ids{"b"});
  EXPECT_TRUE(a->member->state().in_touch);
}

TEST_F(MemberTest, AnEmptiedStoreHasEverythingAgainAfterOneBeatOfEach) {
  const auto a = node("a");
  const auto b = node("b", {{hash_of("text"), kModel}});
  ASSERT_TRUE(b->member->beat());
  ASSERT_TRUE(a->member->beat());
  server_->lose_everything();
  ASSERT_TRUE(b->member->beat());
  const auto c = node("c");
  ASSERT_TRUE(c->member->beat());
  EXPECT_EQ(seen_by(*c), Ids{"b"});
  EXPECT_TRUE(holds(*c->member->view()->nodes[0].held, {hash_of("text"), kModel}));
}

TEST_F(MemberTest, ADoubledIdStaysWithWhoHadItAndTheOtherIsRenamed) {
  const auto first = node("a");
  const auto second = node("a");
  second->self.record.url = "http://10.0.0.2:8080";
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(first->member->beat());
    ASSERT_TRUE(second->member->beat());
    clock_.advance(5s);
  }
  EXPECT_EQ(first->member->state().id, "a");
  EXPECT_EQ(second->member->state().renamed, 1U);
  const std::string renamed = second->member->state().id;
  EXPECT_TRUE(renamed.starts_with("a-")) << renamed;
  ASSERT_TRUE(first->member->beat());
  EXPECT_EQ(seen_by(*first), Ids{renamed});
}

TEST_F(MemberTest, AProcessThatStartsAgainWithItsIdWaitsForItsOwnOldLease) {
  const auto killed = node("a");
  ASSERT_TRUE(killed->member->beat());
  const auto again = node("a");
  ASSERT_TRUE(again->member->beat());
  clock_.advance(15s);
  ASSERT_TRUE(again->member->beat());
  EXPECT_EQ(again->member->state().id, "a");
  EXPECT_EQ(again->member->state().renamed, 0U);
  const auto b = node("b");
  ASSERT_TRUE(b->member->beat());
  EXPECT_EQ(seen_by(*b), Ids{"a"});
}

TEST_F(MemberTest, AStoppedProcessWhoseIdWasTakenMeanwhileIsRenamed) {
  const auto stopped = node("a");
  ASSERT_TRUE(stopped->member->beat());
  clock_.advance(16s);
  const auto other = node("a");
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(other->member->beat());
    ASSERT_TRUE(stopped->member->beat());
    clock_.advance(5s);
  }
  EXPECT_EQ(other->member->state().id, "a");
  EXPECT_EQ(stopped->member->state().renamed, 1U);
  stopped->member->leave();  // its own lease and record, not those of the other
  ASSERT_TRUE(node("b")->member->beat());
  const auto c = node("c");
  ASSERT_TRUE(other->member->beat());
  ASSERT_TRUE(c->member->beat());
  EXPECT_TRUE(std::ranges::contains(seen_by(*c), "a"));
}

TEST_F(MemberTest, WhatIsPoisonedIsLeftOutAndTheRestIsUsed) {
  const auto a = node("a");
  const auto b = node("b");
  ASSERT_TRUE(b->member->beat());
  const FleetKeys keys("f00d");
  auto store = this->store();
  const auto write = [&](const std::string& id, const std::string& record) {
    ASSERT_TRUE(store.set(keys.node(id), record, 1h));
    ASSERT_TRUE(store.add(keys.nodes(), id, 1h));
  };
  write("junk", "not JSON");
  write("large", std::string(1U << 20, 'x'));
  write("impostor", to_json_text({.id = "b", .url = "http://10.6.6.6:80"}));
  write("metadata", to_json_text({.id = "metadata", .url = "http://169.254.169.254:80"}));
  write("a b\r\n", to_json_text({.id = "a b", .url = "http://10.6.6.6:80"}));
  ASSERT_TRUE(a->member->beat());
  EXPECT_EQ(seen_by(*a), Ids{"b"});
  EXPECT_EQ(a->member->state().refused, 5U);
}

TEST_F(MemberTest, AListThatIsNotTheOneNamedIsNotUsed) {
  const auto a = node("a");
  const auto b = node("b", {{hash_of("text"), kModel}});
  ASSERT_TRUE(b->member->beat());
  auto store = this->store();
  const std::vector<HeldPack> other{{hash_of("other"), kModel}};
  ASSERT_TRUE(store.set(FleetKeys("f00d").held("b"), to_json_text(other), 1h));
  ASSERT_TRUE(a->member->beat());
  EXPECT_TRUE(a->member->view()->nodes[0].held->empty());
}

TEST_F(MemberTest, BeatsOnItsOwnOnceStarted) {
  const auto a = node("a");
  const auto b = node("b");
  a->member->start();
  clock_.wait_for_sleepers(1);
  ASSERT_TRUE(b->member->beat());
  EXPECT_EQ(seen_by(*b), Ids{"a"});
  clock_.advance(5s);
  clock_.wait_for_sleepers(1);
  EXPECT_EQ(seen_by(*a), Ids{"b"});
  a->member.reset();
  ASSERT_TRUE(b->member->beat());
  EXPECT_EQ(seen_by(*b), Ids{});
}

}  // namespace
}  // namespace celslm
