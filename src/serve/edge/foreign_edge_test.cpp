// An edge with a model that libllama runs.
#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "serve/edge/edge_service.h"
#include "tests/support/llama_oracle.h"
#include "tests/support/local_net.h"
#include "tests/support/manual_clock.h"
#include "tests/support/random_mamba.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using namespace testing_support;

constexpr int kTokens = 12;

// Both kinds: KV of every token, and a state.
class ForeignEdgeTest : public testing::TestWithParam<const char*> {
 protected:
  ForeignEdgeTest() {
    if (GetParam() == std::string("mamba")) {
      write_random_mamba(file_);
    } else {
      write_random_model(file_, {.architecture = GetParam(), .n_layers = 3, .n_ctx = 2048});
    }
    model_ = *Model::load(file_, {.allow_foreign = true});
  }

  std::unique_ptr<EdgeService> edge(EdgeOptions options = {}, int n_sequences = 16) const {
    EdgeParts parts{.model = model_, .clock = &clock_, .log = null_log()};
    parts.engine = *Engine::create(model_, {.n_threads = 1, .foreign = {.n_tokens = 4096, .n_sequences = n_sequences}});
    auto out = EdgeService::create(std::move(parts), options);
    EXPECT_TRUE(out) << out.error().message;
    return *std::move(out);
  }
  static json request(const std::string& system, const std::string& question) {
    return {{"messages", {{{"role", "system"}, {"content", system}}, {{"role", "user"}, {"content", question}}}},
            {"max_tokens", kTokens},
            {"temperature", 0}};
  }
  static json ask(EdgeService& edge, const std::string& system, const std::string& question) {
    const HttpResponse response = edge.chat_completions({.body = request(system, question).dump()});
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  }
  static std::string text_of(const json& answer) { return answer["choices"][0]["message"]["content"]; }
  static json completed(EdgeService& edge, const json& body, int status = 200) {
    const HttpResponse response = edge.completions({.body = body.dump()});
    EXPECT_EQ(response.status, status) << response.body;
    return json::parse(response.body);
  }

  ManualClock clock_;
  const TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "m.gguf";
  std::shared_ptr<const Model> model_;
  const std::string context_ =
      "Harbour bulletin. Crate 1 is in container a7. Crate 2 is in container a1. Crate 3 is in container a8.";
};

INSTANTIATE_TEST_SUITE_P(Kinds, ForeignEdgeTest, testing::Values("internlm2", "mamba"));

TEST_P(ForeignEdgeTest, CompletesATextAsLibllamaDoes) {
  const std::string prompt = "The crane lifts the crate and";
  LlamaOracle oracle(file_, GGML_TYPE_F16);
  const auto expected = oracle.greedy(model_->text().tokenize(prompt, true, true), kTokens);
  const json answer = completed(*edge(), {{"prompt", prompt}, {"max_tokens", kTokens}, {"temperature", 0}});
  const json text = model_->text().detokenize(expected);  // a random model's bytes: not all of them are text
  EXPECT_EQ(answer["choices"][0]["text"], json::parse(text.dump(-1, ' ', false, json::error_handler_t::replace)));
  EXPECT_EQ(answer["usage"]["completion_tokens"], kTokens);
}

TEST_P(ForeignEdgeTest, NamesLibllamaAsItsEngine) {
  const auto e = edge();
  EXPECT_EQ(ask(*e, "Be brief.", "Where?")["x_celslm"]["engine"], "libllama");
  LocalServer server;
  e->add_routes(server);
  const auto models = json::parse(server.handle({.method = "GET", .path = "/v1/models"}).body);
  EXPECT_EQ(models["data"][0]["x_celslm"]["engine"], "libllama");
}

TEST_P(ForeignEdgeTest, UsersWhoShareAContextGetTheAnswersOfPrefillsOfTheirOwn) {
  const auto sharing = edge({.contexts = {context_}});
  const auto alone = edge({.batch = {.reuse_prefixes = false}});
  const std::vector<std::string> questions{"Where is crate 1?", "And crate 2?", "How many crates are there?"};
  std::vector<json> together(questions.size());
  {
    std::vector<std::jthread> users;
    for (std::size_t i = 0; i < questions.size(); ++i)
      users.emplace_back([&, i] { together[i] = ask(*sharing, context_, questions[i]); });
  }
  for (std::size_t i = 0; i < questions.size(); ++i) {
    EXPECT_EQ(text_of(together[i]), text_of(ask(*alone, context_, questions[i])));
    EXPECT_EQ(together[i]["x_celslm"]["context"], context_handle(context_).hex());
    EXPECT_GT(together[i]["x_celslm"]["matched_tokens"], 50);
    EXPECT_EQ(together[i]["x_celslm"]["layers"].size(), 1U);
  }
}

TEST_P(ForeignEdgeTest, AConversationThatGoesOnIsNotComputedAgain) {
  const auto e = edge();
  json body = request(context_, "Where is crate 1?");
  const json first = json::parse(e->chat_completions({.body = body.dump()}).body);
  body["messages"].push_back({{"role", "assistant"}, {"content", text_of(first)}});
  body["messages"].push_back({{"role", "user"}, {"content", "And crate 2?"}});
  const json second = json::parse(e->chat_completions({.body = body.dump()}).body);
  const json computed =
      json::parse(edge({.batch = {.reuse_prefixes = false}})->chat_completions({.body = body.dump()}).body);
  EXPECT_EQ(text_of(second), text_of(computed));
  // A state is that of a conversation's end, which a tokenizer may write otherwise when the next turn follows.
  const int cached = second["usage"]["prompt_tokens_details"]["cached_tokens"];
  EXPECT_TRUE(cached > 50 || GetParam() == std::string("mamba"));
}

TEST_P(ForeignEdgeTest, SeveralAnswersToOnePromptDrawFromItsLogits) {
  json body = request(context_, "Where is crate 1?");
  body["n"] = 3;
  const json answer = json::parse(edge()->chat_completions({.body = body.dump()}).body);
  ASSERT_EQ(answer["choices"].size(), 3U);
  for (const json& choice : answer["choices"])
    EXPECT_EQ(choice["message"]["content"], answer["choices"][0]["message"]["content"]);
}

TEST_P(ForeignEdgeTest, LogProbabilitiesAndStopStringsAreThoseOfTheAnswer) {
  const auto e = edge();
  json body = {{"prompt", "The crane lifts"}, {"max_tokens", kTokens}, {"temperature", 0}, {"logprobs", 2}};
  const json answer = completed(*e, body);
  const std::string text = answer["choices"][0]["text"];
  EXPECT_FALSE(answer["choices"][0]["logprobs"]["token_logprobs"].empty());
  const auto letter = std::ranges::find_if(text, [](char c) { return c >= ' ' && c <= '~'; });
  ASSERT_NE(letter, text.end());
  body["stop"] = std::string(1, *letter);
  EXPECT_EQ(completed(*e, body)["choices"][0]["finish_reason"], "stop");
}

TEST_P(ForeignEdgeTest, ARequestWhoseClientLeavesFreesItsSequence) {
  const auto e = edge({.batch = {.reuse_prefixes = false}}, 1);
  const HttpRequest left{.body = request("Be brief.", "Where?").dump(), .disconnected = [] { return true; }};
  EXPECT_EQ(e->chat_completions(left).status, 499);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(text_of(ask(*e, "Be brief.", "Where?")).empty());
}

TEST_P(ForeignEdgeTest, WhatDoesNotFitItsContextIsRefusedAsOurEngineDoes) {
  const json answer = completed(*edge(), {{"prompt", std::string(9'000, 'x')}, {"max_tokens", 1}}, 400);
  EXPECT_EQ(answer["error"]["code"], "context_length_exceeded");
}

TEST_P(ForeignEdgeTest, WhatNeedsRowsOfThePromptIsRefused) {
  const auto e = edge();
  const HttpResponse embedded = e->embeddings({.body = json{{"input", "crate"}}.dump()});
  EXPECT_EQ(embedded.status, 400);
  EXPECT_THAT(embedded.body, HasSubstr("libllama"));
  completed(*e, {{"prompt", "a crate"}, {"max_tokens", 1}, {"echo", true}, {"logprobs", 1}}, 400);
}

}  // namespace
}  // namespace celslm
