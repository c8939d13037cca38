#include "serve/edge/context_directory.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/local_net.h"
#include "tests/support/manual_clock.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing_support::LocalClient;
using testing_support::LocalServer;

ContextInfo info(const std::string& text) {
  return {.handle = context_handle(text), .name = "", .bytes = text.size()};
}

json list(const std::string& revision, const std::vector<std::string>& texts) {
  ContextList out{.revision = revision};
  for (const std::string& text : texts) out.added.push_back(info(text));
  return to_json(out);
}

// A cloud whose list is what the test says, and an edge's directory.
class ContextDirectoryTest : public testing::Test {
 protected:
  ContextDirectoryTest() {
    server_.route("GET", "/v1/contexts", [this](const HttpRequest& request) {
      ++asked_;
      return answer_(request.parameter("since"));
    });
    server_.route("GET", "/v1/contexts/:context", [](const HttpRequest& request) {
      return json_response({{"id", request.parameter("context")}, {"text", "text"}});
    });
  }
  std::unique_ptr<ContextDirectory> directory(const std::vector<std::string>& own = {}) {
    auto client = std::make_unique<LocalClient>(server_, fault_);
    client_ = client.get();
    return std::make_unique<ContextDirectory>(
        std::make_shared<CloudClient>(std::move(client), std::nullopt, folder_ / "key", null_log()), own, clock_,
        KnownContexts(folder_ / "known"));
  }
  void answer(json body) {
    answer_ = [body = std::move(body)](const std::string&) { return json_response(body); };
  }
  // The complete list to who knows nothing, and something else to who knows a revision.
  void answer(json complete, json changes) {
    answer_ = [=](const std::string& since) { return json_response(since.empty() ? complete : changes); };
  }
  // How often the cloud was asked for its list.
  int asked() const { return asked_; }

  const testing_support::TemporaryFolder folder_;
  testing_support::ManualClock clock_;
  LocalServer server_;
  testing_support::Fault fault_;
  LocalClient* client_ = nullptr;
  std::function<HttpResponse(const std::string& since)> answer_ = [](const std::string&) {
    return json_response(list("", {}));
  };
  std::atomic<int> asked_ = 0;
};

TEST_F(ContextDirectoryTest, FollowsTheCloudsChanges) {
  const auto edge = directory();
  answer(list("r-1", {"one", "two"}), to_json({.revision = "r-3",
                                               .since = "r-1",
                                               .n_contexts = 2,
                                               .added = {info("three")},
                                               .removed = {context_handle("one")}}));
  const auto first = edge->refresh({});
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_TRUE(first->complete && first->has_revision && first->changed);
  const auto second = edge->refresh({});
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_TRUE(second->changed && !second->complete);
  EXPECT_FALSE(edge->contains(context_handle("one")));
  EXPECT_TRUE(edge->contains(context_handle("two")));
  EXPECT_TRUE(edge->contains(context_handle("three")));
  EXPECT_THAT(client_->sent(), HasSubstr("if-none-match: \"r-1\""));
}

TEST_F(ContextDirectoryTest, EachListTellsWhichModelsAreComputedOnADevice) {
  const Hash256 model = hash_of("a model");
  json on_device = list("r-1", {"one"});
  on_device["on_device"] = {model.hex()};
  answer(on_device, list("r-2", {"one"}));
  const auto edge = directory();
  EXPECT_FALSE(edge->on_device(model));
  ASSERT_TRUE(edge->refresh({}));
  EXPECT_TRUE(edge->on_device(model));
  EXPECT_TRUE(directory()->on_device(model)) << "it was kept with the list";
  ASSERT_TRUE(edge->refresh({}));
  EXPECT_FALSE(edge->on_device(model));
}

TEST_F(ContextDirectoryTest, NothingChangesWhereTheCloudAnswersSo) {
  const auto edge = directory();
  answer(list("r-1", {"one"}));
  ASSERT_TRUE(edge->refresh({}));
  answer_ = [](const std::string& since) { return HttpResponse{.status = since == "r-1" ? 304 : 500}; };
  const auto again = edge->refresh({});
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_FALSE(again->changed);
  EXPECT_TRUE(edge->contains(context_handle("one")));
}

TEST_F(ContextDirectoryTest, ReadsTheListOfACloudThatHasNoRevisions) {
  const auto edge = directory();
  answer({{"contexts", {to_json(info("one"))}}});
  for (int i = 0; i < 2; ++i) {
    const auto refreshed = edge->refresh({.for_change = std::chrono::seconds(100)});
    ASSERT_TRUE(refreshed) << refreshed.error().message;
    EXPECT_TRUE(refreshed->complete && !refreshed->has_revision);
  }
  EXPECT_TRUE(edge->contains(context_handle("one")));
  EXPECT_THAT(client_->sent(), Not(HasSubstr("wait=")));
}

TEST_F(ContextDirectoryTest, AsksForAllOfItWhereChangesCannotBeUsed) {
  const std::vector<json> bad = {
      to_json({.revision = "r-2", .since = "r-1", .n_contexts = 9, .added = {info("two")}}),  // another number than that
      to_json({.revision = "r-2", .since = "r-0", .n_contexts = 2, .added = {info("two")}}),  // of another list
      {{"revision", "r-2"}, {"since", "r-1"}, {"n_contexts", 1}, {"added", 7}, {"removed", json::array()}},
      json::object(),
  };
  for (const json& changes : bad) {
    const auto edge = directory();
    answer(list("r-1", {"one"}));
    ASSERT_TRUE(edge->refresh({}));
    answer(list("r-2", {"one", "two"}), changes);
    const auto refreshed = edge->refresh({});
    ASSERT_TRUE(refreshed) << refreshed.error().message;
    EXPECT_TRUE(refreshed->complete);
    EXPECT_TRUE(edge->contains(context_handle("two")));
    EXPECT_EQ(edge->list().size(), 2U);
    EXPECT_EQ(edge->cloud_trouble(), "");
  }
}

TEST_F(ContextDirectoryTest, KeepsWhatItKnowsWhileTheCloudAnswersNonsense) {
  const auto edge = directory();
  answer(list("r-1", {"one"}));
  ASSERT_TRUE(edge->refresh({}));
  for (const json& nonsense : {json(json::object()), list("r 2/../", {}), json{{"contexts", 3}}}) {
    answer(nonsense);
    EXPECT_FALSE(edge->refresh({}));
    EXPECT_TRUE(edge->contains(context_handle("one")));
    EXPECT_NE(edge->cloud_trouble(), "");
    EXPECT_FALSE(edge->in_touch());
  }
}

TEST_F(ContextDirectoryTest, ARestartGoesOnFromTheListThatWasKept) {
  answer(list("r-1", {"one"}));
  ASSERT_TRUE(directory()->refresh({}));
  answer_ = [](const std::string& since) { return HttpResponse{.status = since == "r-1" ? 304 : 500}; };
  const auto restarted = directory();
  EXPECT_TRUE(restarted->contains(context_handle("one")));
  EXPECT_TRUE(restarted->refresh({}));
}

TEST_F(ContextDirectoryTest, AnUnknownHandleIsLookedUpInTheListAndNeverSent) {
  const auto edge = directory();
  ASSERT_TRUE(edge->refresh({}));
  const auto text = edge->text(context_handle("a secret"));
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(asked(), 2);
  EXPECT_THAT(client_->sent(), Not(HasSubstr(context_handle("a secret").hex())));
}

TEST_F(ContextDirectoryTest, AContextThatWasRegisteredAMomentAgoIsFound) {
  const auto edge = directory();
  ASSERT_TRUE(edge->refresh({}));
  answer(list("r-2", {"text"}));
  const auto text = edge->text(context_handle("text"));
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(*text, "text");
}

TEST_F(ContextDirectoryTest, RequestsWithUnknownHandlesShareOneRefreshInThreeSeconds) {
  const auto edge = directory();
  const auto ask_from_all = [&] {
    std::latch ready(16);
    std::vector<std::jthread> clients;
    for (int i = 0; i < 16; ++i) {
      clients.emplace_back([&, i] {
        ready.arrive_and_wait();
        EXPECT_FALSE(edge->text(context_handle(fmt::format("unknown {}", i))));
      });
    }
  };
  ask_from_all();
  EXPECT_EQ(asked(), 1);
  clock_.advance(std::chrono::milliseconds(2'900));
  ask_from_all();
  EXPECT_EQ(asked(), 1);
  clock_.advance(std::chrono::milliseconds(200));
  ask_from_all();
  EXPECT_EQ(asked(), 2);
}

TEST_F(ContextDirectoryTest, WithoutItsCloudAnEdgeAnswersFromWhatItHas) {
  answer(list("r-1", {"text"}));
  bool dead = false;
  fault_ = [&](const HttpCall&, const auto& go_on) -> Result<HttpAnswer> {
    if (dead) return fail(ErrorKind::kUnavailable, "no route");
    return go_on();
  };
  const auto edge = directory();
  ASSERT_TRUE(edge->refresh({}));
  ASSERT_TRUE(edge->text(context_handle("text")));
  dead = true;
  EXPECT_TRUE(edge->text(context_handle("text")));
  const auto unknown = edge->text(context_handle("unknown"));
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(unknown.error().message, HasSubstr("no route"));
}

TEST_F(ContextDirectoryTest, TheEdgesOwnTextsAreItsOwnWhateverTheCloudLists) {
  const auto edge = directory({"our own"});
  answer(list("r-1", {"our own", "one"}));
  ASSERT_TRUE(edge->refresh({}));
  EXPECT_TRUE(edge->contains(context_handle("our own")));
  EXPECT_FALSE(edge->is_public(context_handle("our own")));
  EXPECT_TRUE(edge->is_public(context_handle("one")));
  EXPECT_EQ(*edge->text(context_handle("our own")), "our own");
  EXPECT_FALSE(edge->remove(context_handle("our own")));
  EXPECT_EQ(edge->list().size(), 2U);
  EXPECT_THAT(client_->sent(), Not(HasSubstr(context_handle("our own").hex())));
}

// A client that registers and removes must not wait for the next refresh.
TEST_F(ContextDirectoryTest, WhatIsRegisteredHereIsKnownHereEvenIfTheListCannotBeRead) {
  server_.route("POST", "/v1/contexts", [](const HttpRequest&) { return json_response(to_json(info("new"))); });
  server_.route("DELETE", "/v1/contexts/:context", [](const HttpRequest&) { return HttpResponse{.status = 204}; });
  const auto edge = directory();
  answer(list("r-1", {"one"}));
  ASSERT_TRUE(edge->refresh({}));
  answer_ = [](const std::string&) { return HttpResponse{.status = 500}; };
  ASSERT_TRUE(edge->put("new", "", false));
  EXPECT_TRUE(edge->contains(context_handle("new")));
  ASSERT_TRUE(edge->remove(context_handle("one")));
  EXPECT_FALSE(edge->contains(context_handle("one")));
  answer(list("r-3", {"new"}), json::object());  // what it has is not the list of any revision: all of it is read
  const auto refreshed = edge->refresh({});
  ASSERT_TRUE(refreshed);
  EXPECT_TRUE(refreshed->complete);
}

}  // namespace
}  // namespace celslm
