#include "serve/wire/context_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "core/hash.h"
#include "core/json.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;

ContextInfo info(const std::string& text) {
  return {.handle = context_handle(text), .name = text, .bytes = text.size()};
}

ContextList changes() {
  return {.revision = "ab-7",
          .since = "ab-5",
          .n_contexts = 9,
          .added = {info("one"), info("two")},
          .on_device = {hash_of("a model")},
          .removed = {context_handle("three")}};
}

TEST(ContextList, SurvivesTheWayThroughJson) {
  const auto read = context_list_from(to_json(changes()));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_FALSE(read->complete());
  EXPECT_EQ(read->revision, "ab-7");
  EXPECT_EQ(read->since, "ab-5");
  EXPECT_EQ(read->n_contexts, 9U);
  ASSERT_EQ(read->added.size(), 2U);
  EXPECT_EQ(read->added[1].handle, context_handle("two"));
  EXPECT_EQ(read->removed, changes().removed);
  EXPECT_EQ(read->on_device, changes().on_device);
  EXPECT_EQ(read->pack_version, kPackVersion);

  const auto all = context_list_from(to_json({.revision = "ab-7", .added = {info("one")}, .on_device = {hash_of("m")}}));
  ASSERT_TRUE(all);
  EXPECT_THAT(all->on_device, testing::ElementsAre(hash_of("m")));
  EXPECT_TRUE(all->complete());
  EXPECT_EQ(all->n_contexts, 1U);
}

TEST(ContextList, ACloudWithoutRevisionsHasACompleteOne) {
  const auto read = context_list_from(*parse_object(R"({"contexts": []})"));
  ASSERT_TRUE(read);
  EXPECT_TRUE(read->complete());
  EXPECT_EQ(read->revision, "");
  EXPECT_EQ(read->pack_version, 1);
}

TEST(ContextList, MalformedChangesAreRefusedByField) {
  const std::string one = context_handle("one").hex();
  const struct {
    std::function<void(json&)> spoil;
    const char* field;
  } cases[] = {
      {[](json& j) { j.erase("revision"); }, "revision"},
      {[](json& j) { j["revision"] = "a b&wait=0"; }, "revision"},
      {[](json& j) { j["revision"] = std::string(65, 'a'); }, "revision"},
      {[](json& j) { j["revision"] = 7; }, "revision"},
      {[](json& j) { j["since"] = "\x1b"; }, "since"},
      {[](json& j) { j.erase("n_contexts"); }, "n_contexts"},
      {[](json& j) { j["n_contexts"] = kMaxContexts + 1; }, "n_contexts"},
      {[](json& j) { j["n_contexts"] = -1; }, "n_contexts"},
      {[](json& j) { j.erase("added"); }, "added"},
      {[](json& j) { j["on_device"] = "all"; }, "on_device"},
      {[](json& j) { j["pack_version"] = 0; }, "pack_version"},
      {[](json& j) { j["pack_version"] = 65'536; }, "pack_version"},
      {[](json& j) { j["pack_version"] = "2"; }, "pack_version"},
      {[](json& j) { j["on_device"][0] = 7; }, "on_device"},
      {[](json& j) { j["added"].push_back(j["added"][0]); }, "added"},
      {[](json& j) { j["added"][0]["id"] = "short"; }, "id"},
      {[](json& j) { j.erase("removed"); }, "removed"},
      {[](json& j) { j["removed"] = json::array({1}); }, "removed"},
      {[](json& j) { j["removed"] = json::array({"short"}); }, ""},
      {[&](json& j) { j["removed"] = json::array({one}); }, "removed"},
      {[](json& j) { j["removed"].push_back(j["removed"][0]); }, "removed"},
  };
  for (const auto& c : cases) {
    json spoiled = to_json(changes());
    c.spoil(spoiled);
    const auto read = context_list_from(spoiled);
    ASSERT_FALSE(read) << spoiled;
    EXPECT_EQ(read.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(read.error().message, HasSubstr(c.field)) << spoiled;
  }
}

}  // namespace
}  // namespace celslm
