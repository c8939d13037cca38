#include "serve/cloud/shared_work.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/eventually.h"
#include "tests/support/fake_producer.h"
#include "tests/support/manual_clock.h"
#include "tests/support/memory_store.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

const std::vector<CodecId> kCodecs{CodecId::kF16};
const FleetKeys kKeys("f00d");

// A cloud that computes, and takes what others have no time for.
struct Worker {
  Worker(const std::filesystem::path& folder, const SigningKey& key, const std::shared_ptr<MemoryServer>& server,
         const Clock& clock)
      : contexts(*ContextRegistry::open(folder / "contexts", null_log())),
        storage(*PackStore::open(folder / "packs", 64U << 20, null_log()), key.public_key()),
        catalog(*contexts, {producer}),
        jobs(catalog.models(), storage, key, clock, observer, null_log(),
             {.on_wait = [this](const PackIdentity&) { ++waited; }}),
        work(std::make_unique<MemoryStore>(server),
             {.catalog = catalog, .jobs = jobs, .codecs = kCodecs, .keys = kKeys, .beat = 5s}, clock, null_log()) {}

  PackIdentity identity(const std::string& text) {
    return *catalog.identity(contexts->put(text, "")->handle, *producer, CodecId::kF16);
  }
  WorkItem item(const std::string& text) {
    return {.pack = {.context = contexts->put(text, "")->handle, .model = producer->model().fingerprint.id()},
            .codec = "f16"};
  }
  bool has(const std::string& text) { return storage.find(identity(text).id()).has_value(); }
  // Steps until what was taken is finished.
  void finish() {
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(work.step());
      ASSERT_TRUE(eventually([&] { return jobs.idle(); }));
      ASSERT_TRUE(work.step());
    }
  }

  std::shared_ptr<FakeProducer> producer = std::make_shared<FakeProducer>();
  PackObserver observer;
  std::unique_ptr<ContextRegistry> contexts;
  SignedPackStorage storage;
  PackCatalog catalog;
  int waited = 0;
  PackJobs jobs;
  SharedWork work;
};

class SharedWorkTest : public testing::Test {
 protected:
  std::unique_ptr<Worker> worker() {
    return std::make_unique<Worker>(folder_ / std::to_string(n_++), key_, server_, clock_);
  }
  void append(const std::string& value) {
    MemoryStore store(server_);
    ASSERT_TRUE(store.append(kKeys.work(), value, 100, 1h));
  }
  bool is_empty() {
    MemoryStore store(server_);
    const auto fresh = store.take(kKeys.work(), "clouds", "test");
    return fresh && !*fresh && !*store.take_over(kKeys.work(), "clouds", "test", 0s);
  }
  const TemporaryFolder folder_;
  ManualClock clock_;
  std::shared_ptr<MemoryServer> server_ = std::make_shared<MemoryServer>(clock_);
  const SigningKey key_ = *SigningKey::generate();
  int n_ = 0;
};

TEST_F(SharedWorkTest, AnIdleCloudComputesWhatAnotherHasNoTimeFor) {
  const auto busy = worker(), idle = worker();
  busy->producer->hold();
  ASSERT_TRUE(busy->jobs.request(busy->identity("first")));
  EXPECT_EQ(busy->waited, 0);
  ASSERT_TRUE(busy->jobs.request(busy->identity("second")));
  EXPECT_EQ(busy->waited, 1);
  busy->work.offer(busy->item("second"));
  ASSERT_TRUE(busy->work.step());
  idle->item("second");  // registered there, too
  idle->finish();
  EXPECT_TRUE(idle->has("second"));
  EXPECT_TRUE(is_empty());
}

TEST_F(SharedWorkTest, AnotherTakesOverWhenAWorkerDies) {
  auto dying = worker();
  const auto heir = worker();
  heir->item("text");
  dying->producer->hold();
  append(to_json_text(dying->item("text")));
  ASSERT_TRUE(dying->work.step());
  EXPECT_FALSE(dying->jobs.idle());
  heir->finish();
  EXPECT_FALSE(heir->has("text"));
  dying.reset();
  clock_.advance(15s);
  heir->finish();
  EXPECT_TRUE(heir->has("text"));
  EXPECT_TRUE(is_empty());
}

TEST_F(SharedWorkTest, WhatAWorkerIsStillAtIsNotTakenFromIt) {
  const auto slow = worker(), other = worker();
  other->item("text");
  slow->producer->hold();
  append(to_json_text(slow->item("text")));
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(slow->work.step());
    clock_.advance(5s);
    ASSERT_TRUE(other->work.step());
    EXPECT_TRUE(other->jobs.idle());
  }
  slow->producer->allow(FakeProducer::kLayers);
  slow->finish();
  EXPECT_TRUE(slow->has("text"));
  EXPECT_TRUE(is_empty());
}

TEST_F(SharedWorkTest, WhatIsThereAlreadyIsNotComputedAgain) {
  const auto w = worker();
  ASSERT_TRUE(w->jobs.request(w->identity("text")));
  ASSERT_TRUE(eventually([&] { return w->jobs.idle(); }));
  append(to_json_text(w->item("text")));
  w->finish();
  EXPECT_EQ(w->producer->produced, 1);
  EXPECT_TRUE(is_empty());
}

TEST_F(SharedWorkTest, WhatIsNoWorkIsDoneAwayWith) {
  const auto w = worker();
  append("not JSON");
  append(std::string(Store::kMaxEntryBytes, ' '));
  w->finish();
  EXPECT_TRUE(is_empty());
}

TEST_F(SharedWorkTest, WhatIsNotRegisteredIsLeftToOthersAndGivenUpAfterAFewTries) {
  const auto w = worker();
  WorkItem item = w->item("text");
  item.pack.context = context_handle("never registered");
  append(to_json_text(item));
  for (std::int64_t i = 0; i <= SharedWork::kMaxDeliveries; ++i) {
    ASSERT_TRUE(w->work.step());
    clock_.advance(15s);
  }
  EXPECT_TRUE(is_empty());
  EXPECT_EQ(w->producer->produced, 0);
}

TEST_F(SharedWorkTest, AnItemIsTheSameAfterItWasWritten) {
  const WorkItem item{.pack = {hash_of("context"), hash_of("model")}, .codec = "t4"};
  const auto read = parse_work_item(to_json_text(item));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, item);
  EXPECT_FALSE(parse_work_item("{}"));
  EXPECT_FALSE(parse_work_item(R"({"context":"ab","model":"cd","codec":"f16"})"));
}

}  // namespace
}  // namespace celslm
