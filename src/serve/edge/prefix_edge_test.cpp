// Requests that begin with part of a context, or with a registered text and more.
#include <thread>

#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing_support::failing;
using testing_support::LocalServer;
using testing_support::long_text;

constexpr const char* kLine = "\nIt is 14:05, the user is in the kitchen.";

class PrefixEdgeTest : public testing_support::EdgeFixture {
 protected:
  std::unique_ptr<EdgeService> edge_alone(const EdgeOptions& options = {}) {
    EdgeParts parts{
        .model = model_, .engine = *Engine::create(model_, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
    return *EdgeService::create(std::move(parts), options);
  }
  // What an edge that knows no context answers.
  json answer_alone(const std::string& system) { return ask(*edge_alone(), system); }

  int n_tokens(const std::string& text) const { return static_cast<int>(model_->text().context(text)->size()); }
  static std::string text_of(const json& answer) { return answer["choices"][0]["message"]["content"]; }
  static json ask_as(EdgeService& edge, const std::string& client, const std::string& system) {
    const HttpResponse response = edge.chat_completions({.body = request(system, "Where?").dump(), .client = client});
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  }
  static int cached(const json& answer) { return answer["usage"]["prompt_tokens_details"]["cached_tokens"]; }
  static json by_handle(const std::string& text) {
    json body = request("", "Where?");
    body["messages"].erase(0);
    body["x_celslm"]["context"] = context_handle(text).hex();
    return body;
  }
  void remove(const std::string& text) {
    const HttpResponse answer = server_->handle({.method = "DELETE", .path = "/v1/contexts/" + context_handle(text).hex()});
    ASSERT_LT(answer.status, 300) << answer.body;
  }
};

TEST_F(PrefixEdgeTest, ARegisteredTextWithALineBehindItIsFetchedAndGivesTheSameTokens) {
  const std::string text = long_text();
  put(text);
  const auto e = edge();
  const json answer = ask(*e, text + kLine);
  EXPECT_EQ(sources(answer), all("proxy cloud"));
  EXPECT_EQ(answer["x_celslm"]["context"], context_handle(text).hex());
  const int matched = answer["x_celslm"]["matched_tokens"];
  EXPECT_LT(matched, n_tokens(text));
  EXPECT_GT(matched, n_tokens(text) - 20);
  EXPECT_GE(cached(answer), matched);
  EXPECT_EQ(text_of(answer), text_of(answer_alone(text + kLine)));
  EXPECT_EQ(said(answer), said(ask(*edge_alone({.contexts = {text}}), text + kLine)));
  for (const char* part : {"14:05", "kitchen"}) EXPECT_THAT(client_->sent(), Not(HasSubstr(part)));
}

TEST_F(PrefixEdgeTest, TheLongestOfSeveralRegisteredTextsIsUsed) {
  const std::string text = long_text();
  put(text.substr(0, 300));
  put(text);
  put(text + " More.");
  EXPECT_EQ(ask(*edge(), text + kLine)["x_celslm"]["context"], context_handle(text).hex());
}

TEST_F(PrefixEdgeTest, AShorterRunUsesOnlyWhatLiesInMemoryAndAsksNobody) {
  const std::string text = long_text();
  put(text);
  const auto e = edge({}, {.batch = {.reuse_prefixes = false}});
  const std::string other = text.substr(0, 400) + " And so on.";
  EXPECT_TRUE(ask(*e, other)["x_celslm"]["context"].is_null());
  EXPECT_THAT(client_->sent(), Not(HasSubstr("/v1/packs/")));
  ask(*e, text);
  e->wait_until_loaded();
  const std::string sent = client_->sent();
  const json answer = ask(*e, other);
  EXPECT_EQ(client_->sent(), sent);
  EXPECT_EQ(answer["x_celslm"]["context"], context_handle(text).hex());
  EXPECT_EQ(sources(answer), all("proxy memory"));
  EXPECT_GT(answer["x_celslm"]["matched_tokens"], 350);
  EXPECT_LT(answer["x_celslm"]["matched_tokens"], 450);
  EXPECT_EQ(text_of(answer), text_of(answer_alone(other)));
}

TEST_F(PrefixEdgeTest, RunsOfDifferentLengthsGoThroughOneBatch) {
  const std::string text = long_text();
  const auto e = edge_alone({.contexts = {text}, .batch = {.reuse_prefixes = false}});
  ask(*e, text);
  std::vector<std::string> systems;
  for (const std::size_t size : {100, 250, 400, 600}) systems.push_back(text.substr(0, size) + kLine);
  std::vector<std::string> alone;
  for (const std::string& system : systems) alone.push_back(said(ask(*e, system)));
  std::vector<std::string> together(systems.size());
  {
    std::vector<std::jthread> users;
    for (std::size_t i = 0; i < systems.size(); ++i) users.emplace_back([&, i] { together[i] = said(ask(*e, systems[i])); });
  }
  EXPECT_EQ(together, alone);
}

TEST_F(PrefixEdgeTest, ByteOrderMarkLineBreaksAndAFinalNewlineAreNoDifference) {
  const std::string text = "First line.\n" + long_text() + "\nLast line.\n";
  const auto without_end = text.substr(0, text.size() - 1);
  std::string crlf = text;
  for (std::size_t at = 0; (at = crlf.find('\n', at)) != std::string::npos; at += 2) crlf.insert(at, "\r");
  const auto e = edge_alone({.contexts = {"\xEF\xBB\xBF" + crlf}});
  for (const std::string& system :
       {text, crlf, "\xEF\xBB\xBF" + text, "\xEF\xBB\xBF" + crlf, without_end, text + "\n", crlf + "It is 14:05."}) {
    const json extension = ask(*e, system)["x_celslm"];
    EXPECT_EQ(extension["context"], context_handle(text).hex()) << system;
    EXPECT_GT(extension["matched_tokens"], n_tokens(text) - 20) << system;
  }
}

TEST_F(PrefixEdgeTest, APrivatePromptIsReusedForTheClientThatSentItOnly) {
  const std::string secret = "The code of the safe is 48213, and nobody but the owner may know it.";
  const auto e = edge_alone();
  EXPECT_EQ(cached(ask_as(*e, "key one", secret)), 0);
  EXPECT_EQ(cached(ask_as(*e, "key two", secret)), 0);
  EXPECT_GT(cached(ask_as(*e, "key one", secret)), 60);
}

TEST_F(PrefixEdgeTest, PrefixesAreSharedByAllWhereTheOperatorWantsIt) {
  const std::string secret = "The code of the safe is 48213, and nobody but the owner may know it.";
  const auto e = edge_alone({.batch = {.share_prefixes = true}});
  ask_as(*e, "key one", secret);
  EXPECT_GT(cached(ask_as(*e, "key two", secret)), 60);
}

TEST_F(PrefixEdgeTest, AClientsOwnLongerPrefixIsUsedInsteadOfPartOfAContext) {
  const std::string text = long_text();
  const std::string other = text.substr(0, 60) + std::string(200, 'x');
  const auto e = edge_alone({.contexts = {text}});
  ask(*e, other);  // before the context is in memory
  ask(*e, text);
  const json answer = ask(*e, other);
  EXPECT_TRUE(answer["x_celslm"]["context"].is_null());
  EXPECT_GT(cached(answer), 150);
  EXPECT_EQ(text_of(answer), text_of(answer_alone(other)));
}

TEST_F(PrefixEdgeTest, AContextThatWasRemovedIsAnsweredNoMore) {
  const std::string text = long_text();
  put(text);
  const auto e = edge();
  post(*e, by_handle(text));
  remove(text);
  ASSERT_TRUE(e->refresh_contexts());
  EXPECT_EQ(post(*e, by_handle(text), 404)["error"]["code"], "unknown_context");
  EXPECT_TRUE(ask(*e, text)["x_celslm"]["context"].is_null());
  EXPECT_TRUE(ask(*e, text.substr(0, 300))["x_celslm"]["context"].is_null());
}

TEST_F(PrefixEdgeTest, RemovingAtTheEdgeRemovesAtTheCloud) {
  const std::string text = long_text();
  put(text);
  const auto e = edge();
  LocalServer server("local://edge");
  e->add_routes(server);
  post(*e, by_handle(text));
  const HttpRequest removal{.method = "DELETE", .path = "/v1/contexts/" + context_handle(text).hex()};
  EXPECT_EQ(server.handle(removal).status, 204);
  EXPECT_EQ(cloud_->n_contexts(), 0U);
  post(*e, by_handle(text), 404);
  EXPECT_EQ(server.handle(removal).status, 404);
}

TEST_F(PrefixEdgeTest, RegisteringAtTheEdgePrefillsAtTheCloud) {
  const auto e = edge();
  LocalServer server("local://edge");
  e->add_routes(server);
  const HttpRequest registration{.method = "POST",
                                 .path = "/v1/contexts",
                                 .parameters = {{"prefill", "1"}},
                                 .body = json{{"text", long_text()}}.dump()};
  EXPECT_EQ(server.handle(registration).status, 200);
  EXPECT_THAT(client_->sent(), HasSubstr("prefill=1"));
}

TEST_F(PrefixEdgeTest, AnEdgeThatStartsWithoutItsCloudServesWhatLiesOnItsDisk) {
  const std::string text = long_text();
  put(text);
  const json first = fetch_and_keep(text, "kept");
  const auto again = edge(failing("dead"), {}, "kept");
  const json second = ask(*again, text);
  EXPECT_EQ(sources(second), all("proxy disk"));
  EXPECT_EQ(said(second), said(first));
  EXPECT_EQ(said(post(*again, by_handle(text))), said(first));
  EXPECT_EQ(ask(*again, text + kLine)["x_celslm"]["context"], context_handle(text).hex());
}

TEST_F(PrefixEdgeTest, AContextThatNoChatFitsIsRefusedWhenItIsRegistered) {
  const std::size_t template_tokens = static_cast<std::size_t>(n_tokens("a")) - 1;
  const std::string text(2048 - template_tokens - 5, 'z');  // fits, but not with a question behind it
  const HttpResponse answer =
      server_->handle({.method = "POST", .path = "/v1/contexts", .body = json{{"text", text}}.dump()});
  EXPECT_EQ(answer.status, 400) << n_tokens(text);
  EXPECT_THAT(answer.body, HasSubstr("no answer fits"));
}

}  // namespace
}  // namespace celslm
