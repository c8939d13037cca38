#include "serve/cloud/shared_contexts.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/manual_clock.h"
#include "tests/support/memory_store.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::ElementsAre;
using testing::IsEmpty;

// A cloud's registry and its part of the exchange.
struct Cloud {
  Cloud(const std::filesystem::path& folder, const SigningKey& key, std::shared_ptr<MemoryServer> server)
      : registry(*ContextRegistry::open(folder, null_log())), shared(*registry, key, null_log()), store(std::move(server)) {}
  Status beat() { return shared.exchange(store, FleetKeys("f00d")); }
  ContextHandle put(const std::string& text) { return registry->put(text, "name of " + text)->handle; }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const ContextInfo& info : registry->list()) out.push_back(info.name);
    std::ranges::sort(out);
    return out;
  }
  std::unique_ptr<ContextRegistry> registry;
  SharedContexts shared;
  MemoryStore store;
};

class SharedContextsTest : public testing::Test {
 protected:
  void exchange() {
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(a_.beat());
      ASSERT_TRUE(b_.beat());
    }
  }
  const TemporaryFolder folder_;
  ManualClock clock_;
  std::shared_ptr<MemoryServer> server_ = std::make_shared<MemoryServer>(clock_);
  const SigningKey key_ = *SigningKey::generate();
  Cloud a_{folder_ / "a", key_, server_};
  Cloud b_{folder_ / "b", key_, server_};
};

TEST_F(SharedContextsTest, WhatIsRegisteredAtOneCloudIsRegisteredAtAll) {
  const ContextHandle handle = a_.put("manual");
  b_.put("bulletin");
  exchange();
  EXPECT_THAT(a_.names(), ElementsAre("name of bulletin", "name of manual"));
  EXPECT_EQ(b_.names(), a_.names());
  EXPECT_EQ(b_.registry->find(handle)->text, "manual");
}

TEST_F(SharedContextsTest, WhatIsRemovedAtOneCloudIsRemovedAtAllAndStaysSo) {
  const ContextHandle handle = a_.put("manual");
  exchange();
  ASSERT_TRUE(b_.registry->remove(handle));
  exchange();
  EXPECT_THAT(a_.names(), IsEmpty());
  EXPECT_THAT(b_.names(), IsEmpty());
}

TEST_F(SharedContextsTest, ATenantsContextIsThatTenantsEverywhere) {
  const ContextHandle handle = a_.registry->put("manual", "", "acme")->handle;
  exchange();
  ASSERT_TRUE(b_.registry->contains(handle));
  EXPECT_EQ(b_.registry->list().front().tenant, "acme");
  EXPECT_FALSE(b_.registry->contains(context_handle("manual")));
}

TEST_F(SharedContextsTest, WhatWasRemovedMayBeRegisteredAgain) {
  const ContextHandle handle = a_.put("manual");
  exchange();
  ASSERT_TRUE(b_.registry->remove(handle));
  exchange();
  a_.put("manual");
  exchange();
  EXPECT_THAT(a_.names(), ElementsAre("name of manual"));
  EXPECT_THAT(b_.names(), ElementsAre("name of manual"));
}

TEST_F(SharedContextsTest, AContextThatWasLearnedAndRemovedWithinABeatIsRemovedAtAll) {
  const ContextHandle handle = a_.put("manual");
  ASSERT_TRUE(a_.beat());
  ASSERT_TRUE(b_.beat());
  ASSERT_TRUE(b_.registry->remove(handle));
  exchange();
  EXPECT_THAT(a_.names(), IsEmpty());
  EXPECT_THAT(b_.names(), IsEmpty());
}

TEST_F(SharedContextsTest, AStoreThatLostEverythingGetsItAgainAndRemovalsStay) {
  const ContextHandle gone = a_.put("gone");
  a_.put("manual");
  exchange();
  ASSERT_TRUE(a_.registry->remove(gone));
  exchange();
  server_->lose_everything();
  exchange();
  EXPECT_THAT(a_.names(), ElementsAre("name of manual"));
  EXPECT_THAT(b_.names(), ElementsAre("name of manual"));
  Cloud c(folder_ / "c", key_, server_);
  ASSERT_TRUE(c.beat());
  EXPECT_THAT(c.names(), ElementsAre("name of manual"));
}

TEST_F(SharedContextsTest, ARemovalThatHappenedWhileTheStoreWasDownCountsAfterwards) {
  const ContextHandle handle = a_.put("manual");
  exchange();
  server_->set_down(true);
  ASSERT_TRUE(a_.registry->remove(handle));
  EXPECT_FALSE(a_.beat());
  server_->lose_everything();
  server_->set_down(false);
  exchange();
  EXPECT_THAT(a_.names(), IsEmpty());
  EXPECT_THAT(b_.names(), IsEmpty());
}

TEST_F(SharedContextsTest, ACloudThatWasAwayLearnsWhatWasRemovedMeanwhile) {
  const ContextHandle handle = a_.put("manual");
  exchange();
  ASSERT_TRUE(a_.registry->remove(handle));
  ASSERT_TRUE(a_.beat());
  Cloud again(folder_ / "b", key_, server_);  // from the same folder
  EXPECT_THAT(again.names(), ElementsAre("name of manual"));
  ASSERT_TRUE(again.beat());
  EXPECT_THAT(again.names(), IsEmpty());
  ASSERT_TRUE(a_.beat());
  EXPECT_THAT(a_.names(), IsEmpty());
}

TEST_F(SharedContextsTest, ManyTakeMoreThanOneBeat) {
  for (std::size_t i = 0; i < SharedContexts::kMaxTexts + 10; ++i) a_.put(fmt::format("text {}", i));
  ASSERT_TRUE(a_.beat());
  ASSERT_TRUE(b_.beat());
  EXPECT_EQ(b_.registry->size(), SharedContexts::kMaxTexts);
  exchange();
  EXPECT_EQ(b_.registry->size(), SharedContexts::kMaxTexts + 10);
}

TEST_F(SharedContextsTest, WhatAnotherKeySignedIsNeitherRegisteredNorRemoved) {
  const ContextHandle mine = a_.put("manual");
  exchange();
  const SigningKey other = *SigningKey::generate();
  const FleetKeys keys("f00d");
  const std::string text = "spam";
  const ContextHandle spam = context_handle(text);
  ASSERT_TRUE(a_.store.set(keys.context(spam.hex()), encode_registration({{.handle = spam}, text}, other), 1h));
  ASSERT_TRUE(a_.store.add(keys.contexts(), spam.hex(), 1h));
  ASSERT_TRUE(a_.store.add(keys.removed_contexts(), encode_removal(mine, other), 1h));
  ASSERT_TRUE(a_.store.set(keys.contexts_revision(), "poisoned", 1h));
  exchange();
  EXPECT_THAT(a_.names(), ElementsAre("name of manual"));
  EXPECT_THAT(b_.names(), ElementsAre("name of manual"));
}

TEST_F(SharedContextsTest, ATextUnderAnothersHandleIsRefused) {
  const ContextHandle handle = context_handle("manual");
  const std::string value = encode_registration({{.handle = handle}, "another text"}, key_);
  EXPECT_EQ(parse_registration(value, handle, key_.public_key()).error().kind, ErrorKind::kMismatch);
  const std::string good = encode_registration({{.handle = handle, .name = "x"}, "manual"}, key_);
  EXPECT_TRUE(parse_registration(good, handle, key_.public_key()));
  EXPECT_FALSE(parse_registration(good.substr(1), handle, key_.public_key()));
  EXPECT_FALSE(parse_registration("", handle, key_.public_key()));
}

TEST_F(SharedContextsTest, ATextThatTheStoreEvictedIsWrittenAgain) {
  const ContextHandle handle = a_.put("manual");
  exchange();
  ASSERT_TRUE(a_.store.remove(FleetKeys("f00d").context(handle.hex())));
  exchange();
  Cloud c(folder_ / "c", key_, server_);
  ASSERT_TRUE(c.beat());
  EXPECT_THAT(c.names(), ElementsAre("name of manual"));
}

}  // namespace
}  // namespace celslm
