// One more than each limit on what a cloud or a neighbour sends. docs/trust.md has the attacks that they stop.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "serve/wire/cloud_client.h"
#include "serve/wire/context_list.h"
#include "tests/support/local_net.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::LocalClient;
using testing_support::LocalServer;

std::string problem(const json& list) {
  const auto read = context_list_from(list);
  return read ? "none" : read.error().message;
}

json context(int i) {
  return {{"id", hash_of(fmt::format("{}", i)).hex()}, {"name", ""}, {"bytes", 1}};
}

TEST(WireLimitsTest, ContextsOfAList) {
  json list{{"revision", "a"}, {"contexts", json::array()}};
  for (std::size_t i = 0; i < kMaxContexts; ++i) list["contexts"].push_back(context(static_cast<int>(i)));
  EXPECT_EQ(problem(list), "none");
  list["contexts"].push_back(context(-1));
  EXPECT_THAT(problem(list), HasSubstr("contexts"));
}

TEST(WireLimitsTest, FieldsOfAContext) {
  const auto with = [](const json& fields) {
    json one = context(1);
    one.update(fields);
    return problem({{"revision", "a"}, {"contexts", json::array({one})}});
  };
  EXPECT_EQ(with({{"bytes", kMaxContextBytes}}), "none");
  EXPECT_THAT(with({{"bytes", kMaxContextBytes + 1}}), HasSubstr("bytes"));
  EXPECT_EQ(with({{"name", std::string(1024, 'n')}}), "none");
  EXPECT_THAT(with({{"name", std::string(1025, 'n')}}), HasSubstr("name"));
  EXPECT_EQ(with({{"tenant", std::string(100, 't')}}), "none");
  EXPECT_THAT(with({{"tenant", std::string(101, 't')}}), HasSubstr("tenant"));
  EXPECT_THAT(with({{"tenant", "a\nb"}}), HasSubstr("tenant"));
  json offers = json::array();
  for (std::size_t i = 0; i < kMaxHostedModels; ++i)
    offers.push_back({{"model", hash_of(fmt::format("m{}", i)).hex()}, {"id", hash_of("s").hex()}, {"n_rows", 1}});
  EXPECT_EQ(with({{"studied", offers}}), "none");
  offers.push_back(offers.front());
  EXPECT_THAT(with({{"studied", offers}}), HasSubstr("studied"));
}

TEST(WireLimitsTest, RevisionAndDevicesOfAList) {
  EXPECT_EQ(problem({{"revision", std::string(kMaxRevisionBytes, 'r')}, {"contexts", json::array()}}), "none");
  EXPECT_THAT(problem({{"revision", std::string(kMaxRevisionBytes + 1, 'r')}, {"contexts", json::array()}}),
              HasSubstr("revision"));
  json models = json::array();
  for (std::size_t i = 0; i < kMaxHostedModels; ++i) models.push_back(hash_of(fmt::format("m{}", i)).hex());
  EXPECT_EQ(problem({{"contexts", json::array()}, {"on_device", models}}), "none");
  models.push_back(hash_of("one more").hex());
  EXPECT_THAT(problem({{"contexts", json::array()}, {"on_device", models}}), HasSubstr("on_device"));
}

class CloudAnswersTest : public testing::Test {
 protected:
  // What a client makes of this answer to GET `path`.
  std::unique_ptr<CloudClient> client(const std::string& path, std::string body) {
    server_.route("GET", path, [body = std::move(body)](const HttpRequest&) { return HttpResponse{.body = body}; });
    return std::make_unique<CloudClient>(std::make_unique<LocalClient>(server_), std::nullopt,
                                         std::filesystem::path(testing::TempDir()) / "celslm-no-such-key", null_log());
  }
  LocalServer server_;
};

TEST_F(CloudAnswersTest, HostedModels) {
  json models = json::array();
  for (std::size_t i = 0; i <= kMaxHostedModels; ++i) models.push_back(json::object());
  const auto listed = client("/v1/models", json{{"models", models}}.dump())->models();
  ASSERT_FALSE(listed);
  EXPECT_THAT(listed.error().message, HasSubstr("'models' must be"));
}

TEST_F(CloudAnswersTest, LinksOfKeys) {
  const auto key = SigningKey::generate();
  json links = json::array();
  for (std::size_t i = 0; i <= kMaxKeyLinks; ++i) links.push_back(link_to(*key, key->public_key()).text());
  const auto shown = client("/v1/key", json{{"public_key", key->public_key().hex()}, {"links", links}}.dump())->follow_key();
  ASSERT_FALSE(shown);
  EXPECT_THAT(shown.error().message, HasSubstr("'links' must be"));
}

}  // namespace
}  // namespace celslm
