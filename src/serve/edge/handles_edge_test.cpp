// Which handles an edge tells other nodes: those of its cloud's list that are not of its own texts, and no others.
#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using namespace testing_support;
using testing::HasSubstr;
using testing::Not;

class HandlesEdgeTest : public EdgeFixture {
 protected:
  static json named(const ContextHandle& handle) {
    json out = {{"messages", {{{"role", "user"}, {"content", "Where?"}}}}, {"max_tokens", 4}};
    out["x_celslm"]["context"] = handle.hex();
    return out;
  }
};

TEST_F(HandlesEdgeTest, AHandleThatIsNotListedIsUnknownAndNotSentOn) {
  put(long_text());
  const auto e = edge();
  const ContextHandle secret = context_handle("thirty-two bytes that a client wants to tell somebody");
  const json answer = post(*e, named(secret), 404);
  EXPECT_EQ(answer["error"]["code"], "unknown_context");
  EXPECT_THAT(client_->sent(), Not(HasSubstr(secret.hex())));
}

TEST_F(HandlesEdgeTest, AHandleThatWasRegisteredAMomentAgoIsServed) {
  const auto e = edge();
  put(long_text());
  const json answer = post(*e, named(context_handle(long_text())));
  EXPECT_EQ(answer["x_celslm"]["context"], context_handle(long_text()).hex());
  EXPECT_THAT(client_->sent(), HasSubstr("/v1/packs/" + context_handle(long_text()).hex()));
}

TEST_F(HandlesEdgeTest, AnEdgeThatTakesEverybodyLendsNobodyItsToken) {
  put(long_text());
  const auto e = edge({}, {.forwards_registrations = false});
  LocalServer clients;
  e->add_routes(clients);
  const std::string listed = "/v1/contexts/" + context_handle(long_text()).hex();
  const std::vector<HttpRequest> changes{
      {.method = "POST", .path = "/v1/contexts", .body = json{{"text", "spam"}}.dump()},
      {.method = "DELETE", .path = listed},
  };
  for (const HttpRequest& request : changes) {
    const HttpResponse response = clients.handle(request);
    EXPECT_EQ(response.status, 403);
    EXPECT_EQ(json::parse(response.body)["error"]["code"], "not_forwarded");
  }
  EXPECT_THAT(client_->sent(), Not(HasSubstr("spam")));
  EXPECT_THAT(clients.handle({.method = "GET", .path = "/v1/contexts"}).body, HasSubstr(context_handle(long_text()).hex()));
}

// The cloud lists it, too: that is how it could be asked for.
TEST_F(HandlesEdgeTest, NoOtherNodeIsAskedForATextOfTheEdgesOwn) {
  const std::string own = long_text('o');
  put(own);
  put(long_text());
  const Neighbour neighbour(*this, long_text());
  std::string sent_to_neighbour;
  Mutex mutex;
  neighbour_fault_ = [&](const HttpCall& call, const auto& go_on) {
    {
      const MutexLock lock(mutex);
      sent_to_neighbour += call.path + call.body;
    }
    return go_on();
  };
  const auto e = edge({}, {.contexts = {own}, .max_prefetched = 5, .refine = true});
  e->use_idle_time();
  e->wait_until_loaded();
  const json answer = ask(*e, own);
  EXPECT_EQ(sources(answer), all("native compute"));
  EXPECT_THAT(answer["x_celslm"]["note"].get<std::string>(), HasSubstr("--context"));
  EXPECT_EQ(said(answer), said(local_answer(own)));
  EXPECT_EQ(post(*e, named(context_handle(own)))["x_celslm"]["context"], context_handle(own).hex());
  (void)ask(*e, long_text());  // this one they are asked for
  e->wait_until_loaded();
  const MutexLock lock(mutex);
  EXPECT_THAT(sent_to_neighbour + client_->sent(), Not(HasSubstr(context_handle(own).hex())));
  EXPECT_THAT(sent_to_neighbour, HasSubstr(context_handle(long_text()).hex()));
}

TEST_F(HandlesEdgeTest, WhatACloudWritesIsShortAndPlainInAnAnswer) {
  put(long_text());
  const std::string message = "\x1b[2J\n2026-01-01 edge info all is well\n" + std::string(900'000, 'A');
  const PackFault fault = answering(500, json{{"error", {{"code", "internal"}, {"message", message}}}}.dump());
  const auto e = edge(fault);
  const std::string note = ask(*e, long_text())["x_celslm"]["note"].get<std::string>();
  EXPECT_GT(fault.struck(), 0);
  EXPECT_THAT(note, HasSubstr("\\x1b[2J\\n2026"));
  EXPECT_THAT(note, Not(HasSubstr("\x1b")));
  EXPECT_LT(note.size(), 1000U);
}

}  // namespace
}  // namespace celslm
