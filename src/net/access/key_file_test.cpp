#include "net/access/key_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "net/access/key_ring.h"
#include "tests/support/manual_clock.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::ManualClock;
using testing_support::TemporaryFolder;

constexpr std::string_view kAlice = "alices-secret-key-0001";

std::string problem(std::string_view text) {
  const auto keys = parse_keys(text);
  return keys ? "none" : keys.error().message;
}

std::string one(const json& fields = json::object()) {
  json key{{"name", "alice"}, {"key", kAlice}};
  key.update(fields);
  return json{{"keys", {key}}}.dump();
}

TEST(KeyFileTest, ReadsWhatAKeyMayDo) {
  const auto keys = parse_keys(one({{"tenant", "acme"},
                                    {"policy", "fleet"},
                                    {"requests_per_minute", 60},
                                    {"tokens_per_minute", 20'000},
                                    {"concurrency", 4},
                                    {"operator", true}}));
  ASSERT_TRUE(keys) << keys.error().message;
  const AccessKey& key = keys->front();
  EXPECT_EQ(key.name, "alice");
  EXPECT_EQ(key.hash, hash_of(kAlice));
  EXPECT_FALSE(key.is_hashed);
  EXPECT_EQ(key.tenant, "acme");
  EXPECT_EQ(key.widest_policy, "fleet");
  EXPECT_EQ(key.limits, (KeyLimits{.requests_per_minute = 60, .tokens_per_minute = 20'000, .concurrency = 4}));
  EXPECT_TRUE(key.is_operator);
}

TEST(KeyFileTest, WithoutFurtherFieldsAKeyIsOfTheDefaultTenantAndHasNoLimits) {
  const auto keys = parse_keys(json{{"keys", {{{"name", "a"}, {"key_hash", hash_of(kAlice).hex()}}}}}.dump());
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_EQ(keys->front().hash, hash_of(kAlice));
  EXPECT_EQ(keys->front().tenant, "");
  EXPECT_FALSE(keys->front().is_operator);
  EXPECT_EQ(keys->front().limits, KeyLimits());
}

// A limit whose name has a typo would be no limit.
TEST(KeyFileTest, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(problem(one({{"request_per_minute", 60}})), HasSubstr("no field 'request_per_minute'"));
  EXPECT_THAT(problem(R"({"keys": [], "tenants": []})"), HasSubstr("not 'tenants'"));
  EXPECT_THAT(problem(one({{"policy", "anything"}})), HasSubstr("edge-only, fleet or cloud"));
  EXPECT_THAT(problem(one({{"key_hash", hash_of(kAlice).hex()}})), HasSubstr("one of 'key' and 'key_hash'"));
  EXPECT_THAT(problem(one({{"key", "short"}})), HasSubstr("at least 16"));
  EXPECT_THAT(problem(one({{"concurrency", 0}})), HasSubstr("concurrency"));
  EXPECT_THAT(problem(one({{"name", "new\nline"}})), HasSubstr("letters, digits"));
  EXPECT_THAT(problem(one({{"name", "token"}})), HasSubstr("the server's own"));
  EXPECT_THAT(problem(one({{"tenant", "a b"}})), HasSubstr("tenant"));
  EXPECT_THAT(problem("[]"), HasSubstr("object"));
}

TEST(KeyFileTest, NoMessageShowsAKey) {
  EXPECT_THAT(problem(one({{"policy", "anything"}})), testing::Not(HasSubstr(std::string(kAlice))));
  EXPECT_THAT(problem(one({{"key", "short"}})), testing::Not(HasSubstr("short")));
}

TEST(KeyFileTest, RefusesANameOrAKeyThatIsThereTwice) {
  json keys = json::parse(one());
  keys["keys"].push_back({{"name", "alice"}, {"key", "another-secret-key-2"}});
  EXPECT_THAT(problem(keys.dump()), HasSubstr("two keys have the name 'alice'"));
  keys["keys"][1] = {{"name", "bob"}, {"key", kAlice}};
  EXPECT_THAT(problem(keys.dump()), HasSubstr("the same as an earlier one's"));
}

TEST(KeyFileTest, TakesNoMoreThanItsLimits) {
  json keys{{"keys", json::array()}};
  for (std::size_t i = 0; i < kMaxKeys; ++i)
    keys["keys"].push_back({{"name", fmt::format("k{}", i)}, {"key_hash", hash_of(fmt::format("{}", i)).hex()}});
  EXPECT_EQ(problem(keys.dump()), "none");
  keys["keys"].push_back({{"name", "one-more"}, {"key_hash", hash_of("one more").hex()}});
  EXPECT_THAT(problem(keys.dump()), HasSubstr("keys"));
  EXPECT_EQ(problem(one({{"name", std::string(kMaxKeyNameBytes, 'n')}})), "none");
  EXPECT_THAT(problem(one({{"name", std::string(kMaxKeyNameBytes + 1, 'n')}})), HasSubstr("name"));
  EXPECT_EQ(problem(one({{"concurrency", kMaxKeyLimit}})), "none");
  EXPECT_THAT(problem(one({{"concurrency", kMaxKeyLimit + 1}})), HasSubstr("concurrency"));
  const TemporaryFolder folder;
  const std::string path = folder.write("keys.json", std::string(kMaxKeyFileBytes + 1, ' '));
  EXPECT_THAT(read_keys(path).error().message, HasSubstr("more than the limit"));
}

TEST(KeyFileTest, KeysInClearAreNotForOthersToRead) {
  const TemporaryFolder folder;
  const std::string path = folder.write("keys.json", one());
  EXPECT_TRUE(read_keys(path));
  ::chmod(path.c_str(), 0644);
  const auto refused = read_keys(path);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("chmod 600"));
  folder.write("keys.json", json{{"keys", {{{"name", "a"}, {"key_hash", hash_of(kAlice).hex()}}}}}.dump());
  ::chmod(path.c_str(), 0644);
  EXPECT_TRUE(read_keys(path)) << "hashes are not secret";
}

TEST(KeyFileTest, KeysAreAppendedAsHashesAndRemovedByName) {
  const TemporaryFolder folder;
  const auto path = folder / "keys.json";
  const std::string key = *draw_key();
  EXPECT_NE(key, *draw_key());
  ASSERT_TRUE(append_key(path, {.name = "alice", .hash = hash_of(key), .tenant = "acme", .limits = {.concurrency = 2}}));
  ASSERT_TRUE(append_key(path, {.name = "bob", .hash = hash_of("bobs")}));
  EXPECT_THAT(append_key(path, {.name = "alice", .hash = hash_of("x")}).error().message, HasSubstr("already"));
  EXPECT_THAT(folder.read("keys.json"), testing::Not(HasSubstr(key)));
  struct stat info{};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  const auto keys = read_keys(path);
  ASSERT_TRUE(keys) << keys.error().message;
  ASSERT_EQ(keys->size(), 2U);
  EXPECT_EQ(keys->front().hash, hash_of(key));
  EXPECT_EQ(keys->front().tenant, "acme");
  EXPECT_EQ(keys->front().limits.concurrency, 2);
  ASSERT_TRUE(remove_key(path, "alice"));
  EXPECT_EQ(remove_key(path, "alice").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(read_keys(path)->size(), 1U);
}

TEST(KeyRingTest, IsReadAgainAndKeepsWhatWasUsed) {
  const TemporaryFolder folder;
  const ManualClock clock;
  const std::string path = folder.write("keys.json", one({{"requests_per_minute", 1}}));
  const auto ring = KeyRing::open(path, clock);
  ASSERT_TRUE(ring) << ring.error().message;
  const auto key = (*ring)->find(hash_of(kAlice));
  ASSERT_TRUE(key);
  EXPECT_FALSE((*ring)->find(hash_of("another")));
  ASSERT_TRUE(KeyUse::begin(key->meter, key->entry.limits));
  folder.write("keys.json", one({{"requests_per_minute", 1}, {"tenant", "acme"}}));
  ASSERT_TRUE((*ring)->reload());
  const auto now = (*ring)->find(hash_of(kAlice));
  ASSERT_TRUE(now);
  EXPECT_EQ(now->entry.tenant, "acme");
  EXPECT_FALSE(KeyUse::begin(now->meter, now->entry.limits)) << "reading the file again is no new minute";
  folder.write("keys.json", "{");
  EXPECT_FALSE((*ring)->reload());
  EXPECT_TRUE((*ring)->find(hash_of(kAlice))) << "a broken file leaves the keys as they are";
  folder.write("keys.json", R"({"keys": []})");
  ASSERT_TRUE((*ring)->reload());
  EXPECT_FALSE((*ring)->find(hash_of(kAlice)));
}

}  // namespace
}  // namespace celslm
