#include "serve/cloud/pack_tier.h"

#include <gmock/gmock.h>
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

const FleetKeys kKeys("f00d");
constexpr std::uint64_t kPlenty = 64U << 20;

// A cloud's disk and its part of the tier.
struct Cloud {
  Cloud(const std::filesystem::path& folder, const SigningKey& signing, std::shared_ptr<MemoryServer> server,
        const Clock& clock, std::uint64_t limit)
      : key(signing),
        storage(*PackStore::open(folder, kPlenty, null_log()), signing.public_key()),
        tier({.store = std::make_unique<MemoryStore>(server),
              .reading = std::make_unique<MemoryStore>(server),
              .keys = kKeys,
              .limit_bytes = limit,
              .beat = 5s,
              .key = signing},
             clock, null_log()) {}

  StoredPack compute(const PackIdentity& identity) {
    FakeProducer producer;
    PackJob job(identity, identity.id(), encode_preamble(identity, key));
    return *compute_pack(job, producer, storage, key, {}, {});
  }
  Result<StoredPack> fetch(const PackIdentity& identity) {
    PackJob job(identity, identity.id(), encode_preamble(identity, key));
    auto out = tier.fetch(job, storage, {});
    EXPECT_EQ(job.announced(), out ? identity.n_blocks() : 0);
    return out;
  }

  const SigningKey& key;
  SignedPackStorage storage;
  PackTier tier;
};

class PackTierTest : public testing::Test {
 protected:
  static PackIdentity identity(char salt = 'a') {
    const FakeProducer producer;
    const auto tokens = *producer.tokens(std::string(700, salt));
    const ModelFingerprint& model = producer.model().fingerprint;
    return {.context = context_id(model.tokenizer, tokens), .tokens = tokens, .model = model};
  }
  std::unique_ptr<Cloud> cloud(std::uint64_t limit = kPlenty) {
    return std::make_unique<Cloud>(folder_ / std::to_string(n_++), key_, server_, clock_, limit);
  }
  const TemporaryFolder folder_;
  ManualClock clock_;
  std::shared_ptr<MemoryServer> server_ = std::make_shared<MemoryServer>(clock_);
  const SigningKey key_ = *SigningKey::generate();
  int n_ = 0;
};

TEST_F(PackTierTest, WhatOneCloudComputedAnotherReads) {
  const auto a = cloud(), b = cloud();
  a->tier.keep(a->compute(identity()));
  ASSERT_TRUE(a->tier.step());
  EXPECT_EQ(b->fetch(identity()).error().kind, ErrorKind::kNotFound);  // it has not looked yet
  ASSERT_TRUE(b->tier.step());
  const auto pack = b->fetch(identity());
  ASSERT_TRUE(pack) << pack.error().message;
  EXPECT_EQ(pack->header.identity, identity());
  for (int i = 0; i < identity().n_blocks(); ++i) EXPECT_TRUE(pack->block(i));
}

TEST_F(PackTierTest, NothingIsKeptBeyondItsLimit) {
  const auto first = cloud();
  first->tier.keep(first->compute(identity('a')));
  ASSERT_TRUE(first->tier.step());
  const std::uint64_t one = first->tier.bytes();
  ASSERT_GT(one, 0U);
  const auto second = cloud(2 * one - 1);
  second->tier.keep(second->compute(identity('b')));
  ASSERT_TRUE(second->tier.step());
  EXPECT_FALSE(second->tier.has(identity('b').id()));
  const auto third = cloud(2 * one);
  third->tier.keep(third->compute(identity('b')));
  ASSERT_TRUE(third->tier.step());
  EXPECT_TRUE(third->tier.has(identity('b').id()));
}

TEST_F(PackTierTest, APackIsThereForAnHourAndItsPlaceIsFreeAgain) {
  const auto a = cloud(), b = cloud();
  a->tier.keep(a->compute(identity()));
  ASSERT_TRUE(a->tier.step());
  ASSERT_TRUE(b->tier.step());
  clock_.advance(61min);
  EXPECT_EQ(b->fetch(identity()).error().kind, ErrorKind::kNotFound);
  ASSERT_TRUE(b->tier.step());
  EXPECT_FALSE(b->tier.has(identity().id()));
  EXPECT_EQ(b->tier.bytes(), 0U);
}

TEST_F(PackTierTest, ADamagedBlockIsRefusedAndNothingIsAnnounced) {
  const auto a = cloud(), b = cloud();
  a->tier.keep(a->compute(identity()));
  ASSERT_TRUE(a->tier.step());
  ASSERT_TRUE(b->tier.step());
  MemoryStore store(server_);
  const std::vector<std::string> key{kKeys.block(identity().id().hex(), 1)};
  std::string block = *store.get_all(key, 1U << 20)->at(0);
  block[block.size() / 2] ^= 1;
  ASSERT_TRUE(store.set(key[0], block, 1h));
  EXPECT_EQ(b->fetch(identity()).error().kind, ErrorKind::kMismatch);
  EXPECT_FALSE(b->storage.find(identity().id()));
}

TEST_F(PackTierTest, AnotherPackUnderItsNameIsRefused) {
  const auto a = cloud(), b = cloud();
  a->tier.keep(a->compute(identity('a')));
  a->tier.keep(a->compute(identity('b')));
  ASSERT_TRUE(a->tier.step());
  ASSERT_TRUE(b->tier.step());
  MemoryStore store(server_);
  const std::vector<std::string> other{kKeys.pack(identity('b').id().hex())};
  ASSERT_TRUE(store.set(kKeys.pack(identity('a').id().hex()), *store.get_all(other, 1U << 20)->at(0), 1h));
  EXPECT_EQ(b->fetch(identity('a')).error().kind, ErrorKind::kMismatch);
}

TEST_F(PackTierTest, WithoutTheStoreItIsAsIfThereWereNone) {
  const auto a = cloud(), b = cloud();
  a->tier.keep(a->compute(identity()));
  ASSERT_TRUE(a->tier.step());
  ASSERT_TRUE(b->tier.step());
  server_->set_down(true);
  EXPECT_FALSE(b->tier.step());
  EXPECT_FALSE(b->fetch(identity()));
}

}  // namespace
}  // namespace celslm
