#include "fleet/directory/node_record.h"

#include <gtest/gtest.h>

#include <string>

#include "fleet/directory/held_packs.h"
#include "fleet/directory/node_address.h"

namespace celslm {
namespace {

NodeRecord some_record() {
  return {.id = "edge-1",
          .role = NodeRole::kEdge,
          .url = "http://10.0.0.7:8080",
          .models = {hash_of("model")},
          .running = 3,
          .queued = 1,
          .places = 8,
          .free_memory_bytes = 1'000'000,
          .prefill_tokens_per_s = 512.5,
          .decode_tokens_per_s = 20,
          .link_bytes_per_s = 1e6,
          .held = "00ff"};
}

TEST(NodeRecord, IsTheSameAfterItWasWritten) {
  const auto read = parse_node_record(to_json_text(some_record()));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, some_record());
}

TEST(NodeRecord, MayHaveFieldsOfANewerNode) {
  const auto read = parse_node_record(R"({"id":"a","role":"cloud","url":"http://h:1","models":[],"battery":{"percent":3}})");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->role, NodeRole::kCloud);
  EXPECT_EQ(read->places, 0);
}

TEST(NodeRecord, IsRefusedWithTheNameOfWhatIsWrong) {
  const auto refused = [](const char* text) {
    const auto read = parse_node_record(text);
    return read ? "taken" : read.error().message;
  };
  EXPECT_NE(refused(R"({"id":"a b","role":"edge","url":"http://h:1","models":[]})").find("'id'"), std::string::npos);
  EXPECT_NE(refused(R"({"id":"a","role":"king","url":"http://h:1","models":[]})").find("'role'"), std::string::npos);
  EXPECT_NE(refused(R"({"id":"a","role":"edge","url":"ftp://h:1","models":[]})").find("address"), std::string::npos);
  EXPECT_NE(refused(R"({"id":"a","role":"edge","url":"http://h:1","models":[7]})").find("'models'"), std::string::npos);
  EXPECT_NE(refused(R"({"id":"a","role":"edge","url":"http://h:1","models":[],"queued":-1})").find("'queued'"),
            std::string::npos);
  EXPECT_NE(refused(R"({"id":"a","role":"edge","url":"http://h:1","models":[],"decode_tokens_per_s":-1})").find("decode"),
            std::string::npos);
}

TEST(NodeRecord, OneByteMoreThanTheLimitIsRefused) {
  std::string text = to_json_text(some_record());
  text.append(kMaxRecordBytes - text.size(), ' ');
  EXPECT_TRUE(parse_node_record(text));
  EXPECT_FALSE(parse_node_record(text + " "));
}

TEST(NodeRecord, OneModelMoreThanTheLimitIsRefused) {
  NodeRecord record = some_record();
  record.models.assign(kMaxRecordModels, hash_of("model"));
  EXPECT_TRUE(parse_node_record(to_json_text(record)));
  record.models.push_back(hash_of("one more"));
  EXPECT_FALSE(parse_node_record(to_json_text(record)));
}

TEST(NodeAddress, IsAHostAndAPortAndNothingElse) {
  for (const char* url : {"http://10.0.0.7:8080", "https://edge-7.example.org:443", "http://[2001:db8::7]:80",
                          "http://localhost:1", "http://127.0.0.1:65535"})
    EXPECT_TRUE(check_node_url(url)) << url;
  for (const char* url : {"", "http://", "http://:80", "http://h", "http://h:0", "http://h:65536", "http://h:80/",
                          "http://h:80?a", "http://h:8 0", "http://user@h:80", "http://u:p@h:80", "HTTP://h:80",
                          "file:///etc/passwd", "http://a\nb:80", "http://[::1:80"})
    EXPECT_FALSE(check_node_url(url)) << url;
}

TEST(NodeAddress, IsNoneWhereNoNodeIs) {
  for (const char* url :
       {"http://0.0.0.0:80", "http://169.254.169.254:80", "http://224.0.0.1:80", "http://255.255.255.255:80",
        "http://[::]:80", "http://[fe80::1]:80", "http://[ff02::1]:80", "http://[::ffff:169.254.169.254]:80",
        "http://2130706433:80", "http://0x7f.1:80", "http://127.1:80"})
    EXPECT_FALSE(check_node_url(url)) << url;
}

TEST(HeldPacks, AreTheSameAfterTheyWereWritten) {
  const HeldPacks packs{{hash_of("a"), hash_of("m")}, {hash_of("b"), hash_of("m")}, {hash_of("a"), hash_of("n")}};
  const auto read = parse_held_packs(to_json_text(packs));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->size(), 3U);
  for (const HeldPack& pack : packs) EXPECT_TRUE(holds(*read, pack));
  EXPECT_FALSE(holds(*read, {hash_of("b"), hash_of("n")}));
}

TEST(HeldPacks, OneMoreThanTheLimitIsNotWrittenAndNotRead) {
  HeldPacks packs;
  for (std::size_t i = 0; i < kMaxHeldPacks + 1; ++i) packs.push_back({hash_of(std::to_string(i)), hash_of("m")});
  const auto read = parse_held_packs(to_json_text(packs));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->size(), kMaxHeldPacks);
  std::string text = to_json_text(packs);
  text.replace(text.find(']'), 1, ",\"" + hash_of("one more").hex() + "\"]");
  EXPECT_FALSE(parse_held_packs(text));
}

TEST(HeldPacks, AreRefusedUnlessTheyAreListsOfHandles) {
  for (const char* text : {"", "[]", "{}", R"({"models":[]})", R"({"models":{"ab":[]}})"})
    EXPECT_FALSE(parse_held_packs(text));
  const std::string model = hash_of("m").hex();
  EXPECT_FALSE(parse_held_packs("{\"models\":{\"" + model + "\":7}}"));
  EXPECT_FALSE(parse_held_packs("{\"models\":{\"" + model + "\":[\"zz\"]}}"));
}

}  // namespace
}  // namespace celslm
