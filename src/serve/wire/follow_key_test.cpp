// How an edge comes from one key of its cloud to the next, and to no other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "serve/wire/cloud_client.h"
#include "tests/support/local_net.h"
#include "tests/support/readable_log.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing_support::LocalClient;
using testing_support::LocalServer;
using testing_support::ReadableLog;
using testing_support::TemporaryFolder;

class FollowKeyTest : public testing::Test {
 protected:
  FollowKeyTest() {
    for (int i = 0; i < 4; ++i) keys_.push_back(*SigningKey::generate());
    server_.route("GET", "/v1/key", [this](const HttpRequest&) {
      json links = json::array();
      for (const KeyLink& link : links_) links.push_back(link.text());
      return HttpResponse{.body = json{{"public_key", shown_.hex()}, {"links", links}}.dump()};
    });
    show(0);
  }

  PublicKey key(int i) const { return keys_[static_cast<std::size_t>(i)].public_key(); }
  // The cloud has this key, and links to it from `first` on.
  void show(int i, int first = 0) {
    shown_ = key(i);
    links_.clear();
    for (int k = first; k < i; ++k) links_.push_back(link_to(keys_[static_cast<std::size_t>(k)], key(k + 1)));
  }
  std::unique_ptr<CloudClient> client(std::optional<PublicKey> pinned = {}) {
    return std::make_unique<CloudClient>(std::make_unique<LocalClient>(server_), pinned, folder_ / "key", log_.log());
  }

  std::vector<SigningKey> keys_;
  PublicKey shown_;
  std::vector<KeyLink> links_;
  const TemporaryFolder folder_;
  const ReadableLog log_;
  LocalServer server_;
};

TEST_F(FollowKeyTest, AnEdgeFollowsLinksAndKeepsTheNewKey) {
  const auto first = client();
  EXPECT_EQ(*first->key(), key(0));
  show(2);
  EXPECT_TRUE(first->follow_key());
  EXPECT_EQ(*first->key(), key(2));
  EXPECT_EQ(*client()->known_key(), key(2)) << "also after a restart";
}

TEST_F(FollowKeyTest, APinnedKeyIsLedOnAlsoAfterARestart) {
  const auto first = client(key(0));
  show(1);
  EXPECT_TRUE(first->follow_key());
  show(3, 1);  // the cloud has dropped its oldest link
  EXPECT_TRUE(first->follow_key());
  EXPECT_EQ(*client(key(0))->known_key(), key(3));
  EXPECT_EQ(*client(key(2))->known_key(), key(3)) << "one of those in between may be named, too";
}

TEST_F(FollowKeyTest, ANamedKeyThatLeadsNowhereStays) {
  const auto first = client();
  EXPECT_EQ(*first->key(), key(0));
  EXPECT_EQ(*client(key(3))->known_key(), key(3));
}

TEST_F(FollowKeyTest, AnotherKeyIsRefusedAndLoggedOnce) {
  const auto first = client();
  EXPECT_EQ(*first->key(), key(0));
  show(3, 1);  // no link from the known key
  for (int i = 0; i < 3; ++i) EXPECT_EQ(first->follow_key().error().kind, ErrorKind::kMismatch);
  EXPECT_EQ(*first->key(), key(0));
  EXPECT_EQ(log_.count("has not vouched for"), 1U) << log_.text();
}

TEST_F(FollowKeyTest, AForgedLinkIsRefused) {
  const auto first = client();
  EXPECT_EQ(*first->key(), key(0));
  show(1);
  links_.front().signature.front() ^= 1;
  EXPECT_EQ(first->follow_key().error().kind, ErrorKind::kMismatch);
  EXPECT_EQ(*first->key(), key(0));
}

// Whoever has stolen an old key has its links, too.
TEST_F(FollowKeyTest, NothingLeadsBack) {
  const auto first = client();
  show(2);
  EXPECT_EQ(*first->key(), key(2));
  show(1);
  EXPECT_EQ(first->follow_key().error().kind, ErrorKind::kMismatch);
  links_ = {link_to(keys_[0], key(1)), link_to(keys_[1], key(2))};
  EXPECT_EQ(first->follow_key().error().kind, ErrorKind::kMismatch);
  EXPECT_EQ(*first->key(), key(2));
}

TEST_F(FollowKeyTest, TheFirstKeyIsTakenOnTrustByThisToo) {
  const auto first = client();
  EXPECT_TRUE(first->follow_key());
  EXPECT_EQ(*first->known_key(), key(0));
}

TEST_F(FollowKeyTest, KeptLinksHaveALimit) {
  KeptKey kept{.key = key(0)};
  for (std::size_t i = 0; i <= kMaxKeptLinks; ++i) kept.links.push_back(link_to(keys_[0], key(1)));
  ASSERT_TRUE(write_kept_key(folder_ / "many", kept));
  EXPECT_EQ(read_kept_key(folder_ / "many")->links.size(), kMaxKeptLinks);
}

}  // namespace
}  // namespace celslm
