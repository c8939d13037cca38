#include "kv/pack/key_chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace celslm {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::vector<KeyLink> chain(const std::vector<SigningKey>& keys) {
  std::vector<KeyLink> out;
  for (std::size_t i = 0; i + 1 < keys.size(); ++i) out.push_back(link_to(keys[i], keys[i + 1].public_key()));
  return out;
}

std::vector<SigningKey> some_keys(std::size_t n) {
  std::vector<SigningKey> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(*SigningKey::generate());
  return out;
}

TEST(KeyChainTest, LeadsFromEachOfItsKeysToTheLast) {
  const auto keys = some_keys(4);
  const auto links = chain(keys);
  for (const SigningKey& key : keys) EXPECT_EQ(*follow(key.public_key(), links), keys.back().public_key());
}

TEST(KeyChainTest, LeadsNowhereFromAKeyThatIsNotInIt) {
  const PublicKey stranger = SigningKey::generate()->public_key();
  EXPECT_EQ(*follow(stranger, chain(some_keys(3))), stranger);
}

// Replayed: an older cloud, or whoever has its old key, cannot lead an edge back.
TEST(KeyChainTest, DoesNotLeadBack) {
  const auto keys = some_keys(2);
  EXPECT_EQ(*follow(keys[1].public_key(), chain(keys)), keys[1].public_key());
}

TEST(KeyChainTest, ALinkThatAnotherKeyHasSignedIsRefused) {
  const auto keys = some_keys(3);
  KeyLink forged = link_to(keys[2], keys[1].public_key());
  forged.from = keys[0].public_key();
  EXPECT_EQ(follow(keys[0].public_key(), std::vector{forged}).error().kind, ErrorKind::kMismatch);
  KeyLink changed = link_to(keys[0], keys[1].public_key());
  changed.to = keys[2].public_key();
  EXPECT_EQ(follow(keys[0].public_key(), std::vector{changed}).error().kind, ErrorKind::kMismatch);
}

TEST(KeyChainTest, IsNoLongerThanItsLimit) {
  const auto keys = some_keys(kMaxKeyLinks + 2);
  const auto links = chain(keys);
  EXPECT_TRUE(follow(keys[0].public_key(), std::span(links).first(kMaxKeyLinks)));
  EXPECT_EQ(follow(keys[0].public_key(), links).error().kind, ErrorKind::kInvalid);
}

TEST(KeyChainTest, LinksAreReadAsTheyAreWritten) {
  const KeyLink link = chain(some_keys(2)).front();
  EXPECT_EQ(*KeyLink::from_text(link.text()), link);
  EXPECT_FALSE(KeyLink::from_text(link.text() + "0"));
  EXPECT_FALSE(KeyLink::from_text(std::string(link.text().size(), ' ')));
  EXPECT_FALSE(KeyLink::from_text(""));
}

class RotationTest : public testing::Test {
 protected:
  RotationTest() { fs::create_directories(folder_); }
  ~RotationTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  PublicKey key() const { return SigningKey::load_or_create(folder_ / kSigningKeyFile)->public_key(); }
  std::vector<KeyLink> links() const { return *read_links(folder_ / kSigningLinksFile); }
  const fs::path folder_ = fs::path(testing::TempDir()) / ("celslm-rotation-" + std::to_string(::getpid()));
};

TEST_F(RotationTest, TheNewKeyIsOneThatTheOldOneVouchesFor) {
  const PublicKey old = key();
  const auto link = rotate_signing_key(folder_);
  ASSERT_TRUE(link) << link.error().message;
  EXPECT_NE(key(), old);
  EXPECT_EQ(*follow(old, links()), key());
  ASSERT_TRUE(rotate_signing_key(folder_));
  EXPECT_EQ(*follow(old, links()), key());
}

TEST_F(RotationTest, OldLinksAreDroppedBeyondTheLimit) {
  const PublicKey first = key();
  PublicKey second;
  for (std::size_t i = 0; i <= kMaxKeyLinks; ++i) {
    ASSERT_TRUE(rotate_signing_key(folder_));
    if (i == 0) second = key();
  }
  EXPECT_EQ(links().size(), kMaxKeyLinks);
  EXPECT_EQ(*follow(first, links()), first);
  EXPECT_EQ(*follow(second, links()), key());
}

TEST_F(RotationTest, OneThatWasInterruptedIsCompletedByTheNext) {
  const PublicKey old = key();
  const auto next = *SigningKey::load_or_create(folder_ / (std::string(kSigningKeyFile) + ".next"));
  ASSERT_TRUE(rotate_signing_key(folder_));
  EXPECT_EQ(key(), next.public_key());
  EXPECT_EQ(*follow(old, links()), key());
}

TEST_F(RotationTest, ThereMustBeAKey) {
  EXPECT_EQ(rotate_signing_key(folder_).error().kind, ErrorKind::kNotFound);
}

TEST_F(RotationTest, AFileThatIsTooLongIsRefused) {
  std::ofstream(folder_ / kSigningLinksFile) << std::string(100'000, 'a');
  EXPECT_EQ(read_links(folder_ / kSigningLinksFile).error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace celslm
