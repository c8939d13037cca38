// An edge whose cloud has been upgraded first: it costs time, and no answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing_support::Fault;
using testing_support::long_text;
using testing_support::only_packs;
using testing_support::PackFault;

class NewerCloudTest : public testing_support::EdgeFixture {
 protected:
  NewerCloudTest() { put(long_text()); }

  // A cloud whose list names this version of packs.
  static Fault writing(const std::shared_ptr<std::atomic<int>>& version) {
    return [version](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
      CELSLM_TRY(HttpAnswer answer, go_on());
      if (!call.path.starts_with("/v1/contexts") || answer.status != 200) return answer;
      json list = json::parse(as_text(answer.body));
      EXPECT_EQ(list["pack_version"], kPackVersion);
      list["pack_version"] = version->load();
      const std::string text = list.dump();
      answer.body.assign(as_bytes(text).begin(), as_bytes(text).end());
      return answer;
    };
  }

  static std::string note(const json& answer) { return answer["x_celslm"].value("note", ""); }
};

TEST_F(NewerCloudTest, ComputesWithoutAskingForPacksThatItCannotRead) {
  const auto e = edge(writing(std::make_shared<std::atomic<int>>(kPackVersion + 1)));
  const json answer = ask(*e, long_text());
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_EQ(said(answer), said(local_answer(long_text())));
  EXPECT_THAT(note(answer), HasSubstr("writes packs of version 3; this program reads versions 1 to 2: update this edge"));
  EXPECT_THAT(client_->sent(), Not(HasSubstr("/v1/packs/")));
}

TEST_F(NewerCloudTest, FetchesAgainFromACloudThatWentBack) {
  const auto version = std::make_shared<std::atomic<int>>(kPackVersion + 1);
  const auto e = edge(writing(version));
  EXPECT_EQ(sources(ask(*e, long_text())), all("native compute"));
  *version = kPackVersion;
  put(long_text('b'));
  ASSERT_TRUE(e->refresh_contexts());
  EXPECT_EQ(sources(ask(*e, long_text('b'))), all("proxy cloud"));
}

// Without a word in the list, as a neighbour, whose list no edge reads.
TEST_F(NewerCloudTest, RefusesANewerHeaderByItsVersion) {
  fetch_and_keep(long_text(), "other");
  const PackFault newer = only_packs(
      [](const HttpCall&, const auto& go_on) -> Result<HttpAnswer> {
        CELSLM_TRY(HttpAnswer answer, go_on());
        if (answer.status == 200 && answer.body.size() > 8) answer.body[8] = std::byte{kPackVersion + 1};
        return answer;
      },
      "/header");
  const json answer = ask(*edge(newer), long_text());
  EXPECT_GT(newer.struck(), 0);
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_THAT(note(answer), HasSubstr("version is 3; this program reads versions 1 to 2"));
}

}  // namespace
}  // namespace celslm
