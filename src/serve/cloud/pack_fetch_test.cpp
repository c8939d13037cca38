#include "serve/cloud/pack_fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/cloud/cloud_service.h"
#include "tests/support/eventually.h"
#include "tests/support/fake_producer.h"
#include "tests/support/local_net.h"
#include "tests/support/manual_clock.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using namespace testing_support;

// A cloud behind a local server, and another one that would have a pack of its.
class PackFetchTest : public testing::Test {
 protected:
  PackFetchTest() {
    std::filesystem::create_directories(folder_ / "other");
    cloud_ = *CloudService::create({.data_folder = folder_ / "cloud"}, {producer_}, clock_, null_log());
    cloud_->add_routes(server_);
    key_.emplace(*SigningKey::load_or_create(folder_ / "cloud" / "signing.key"));
    storage_ = std::make_unique<SignedPackStorage>(*PackStore::open(folder_ / "other" / "packs", 64U << 20, null_log()),
                                                   key_->public_key());
    const HttpResponse put =
        server_.handle({.method = "POST", .path = "/v1/contexts", .body = R"({"text": "a text of some length"})"});
    EXPECT_EQ(put.status, 200) << put.body;
    identity_ = identity();
  }
  ~PackFetchTest() override { cloud_->shutdown(); }

  PackIdentity identity() const {
    const auto tokens = *producer_->tokens("a text of some length");
    const ModelFingerprint& model = producer_->model().fingerprint;
    return {.context = context_id(model.tokenizer, tokens), .tokens = tokens, .model = model};
  }
  void compute() {
    const std::string path = pack_path(context_handle("a text of some length"), identity_.model.id(), "f16", "header");
    EXPECT_TRUE(eventually([&] { return server_.handle({.method = "GET", .path = path}).status == 200; }));
  }
  Result<StoredPack> fetch(Fault fault = {}) {
    CloudClient client(std::make_unique<LocalClient>(server_, std::move(fault)), key_->public_key(), "", null_log());
    job_ = std::make_unique<PackJob>(identity_, identity_.id(), encode_preamble(identity_, *key_));
    const PackName name{.handle = context_handle("a text of some length"), .model = identity_.model.id(), .codec = "f16"};
    return fetch_pack(*job_, client, name, *storage_, *key_, {});
  }

  const TemporaryFolder folder_;
  ManualClock clock_;
  std::shared_ptr<FakeProducer> producer_ = std::make_shared<FakeProducer>();
  std::unique_ptr<CloudService> cloud_;
  LocalServer server_;
  std::optional<SigningKey> key_;
  std::unique_ptr<SignedPackStorage> storage_;
  PackIdentity identity_;
  std::unique_ptr<PackJob> job_;
};

TEST_F(PackFetchTest, APackThatAnotherCloudHasIsHereWithAllItsEntries) {
  compute();
  const auto stored = fetch();
  ASSERT_TRUE(stored) << stored.error().message;
  EXPECT_EQ(stored->header.identity, identity_);
  EXPECT_EQ(job_->announced(), identity_.n_blocks());
  for (int i = 0; i < identity_.n_blocks(); ++i) EXPECT_TRUE(stored->block(i));
  EXPECT_TRUE(storage_->find(identity_.id()));
}

TEST_F(PackFetchTest, ADamagedBlockEndsItWithNothingAnnounced) {
  compute();
  const auto fetched = fetch([](const HttpCall& call, const auto& go_on) {
    auto answer = go_on();
    if (call.range && answer && !answer->body.empty()) answer->body[answer->body.size() / 2] ^= std::byte{1};
    return answer;
  });
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().kind, ErrorKind::kMismatch) << fetched.error().message;
  EXPECT_EQ(job_->announced(), 0);
  EXPECT_FALSE(storage_->find(identity_.id()));
}

TEST_F(PackFetchTest, ACloudThatComputesItNowHasItNot) {
  producer_->hold();
  const auto fetched = fetch();
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().kind, ErrorKind::kNotFound) << fetched.error().message;
}

TEST_F(PackFetchTest, AnotherPackThanTheOneWantedIsRefused) {
  compute();
  identity_.tokens.pop_back();
  identity_.context = context_id(identity_.model.tokenizer, identity_.tokens);
  const auto fetched = fetch();
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().kind, ErrorKind::kMismatch) << fetched.error().message;
}

}  // namespace
}  // namespace celslm
