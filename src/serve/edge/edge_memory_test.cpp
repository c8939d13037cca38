// What an edge does where memory is short, and that it holds no more than its ledger shows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "serve/edge/edge_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::long_text;

constexpr std::uint64_t kRequestBytes = 1U << 20;  // which contexts leave free

class EdgeMemoryTest : public testing_support::EdgeFixture {
 protected:
  // An edge that knows no cloud, with this ledger.
  std::unique_ptr<EdgeService> alone(const std::shared_ptr<MemoryLedger>& memory, const std::vector<std::string>& contexts) {
    EdgeParts parts{
        .model = model_, .engine = *Engine::create(model_, {.n_threads = 1}), .clock = &clock_, .log = null_log()};
    EdgeOptions options{.contexts = contexts};
    options.batch.memory = memory;
    options.batch.kv_budget_bytes = kRequestBytes;
    return *EdgeService::create(std::move(parts), options);
  }
  std::uint64_t context_bytes(const std::string& text) const {
    return KvSegment::resident_bytes(model_->config(), KvType::kF16, static_cast<int>(model_->text().context(text)->size()));
  }
  static std::uint64_t held(const MemoryLedger& memory, std::string_view account) {
    for (const auto& each : memory.accounts()) {
      if (each.name == account) return each.bytes;
    }
    return 0;
  }
  // The engine lets a request go, and what it holds, a moment after its answer.
  static void wait_until_let_go(const MemoryLedger& memory) {
    while (held(memory, "requests") > 0) std::this_thread::yield();
  }
  // The threads of a load, too, let its context go a moment later: until then it is in use, and the answer to others 429.
  static HttpResponse ask_until_there_is_room(EdgeService& edge, const std::string& text) {
    HttpResponse out;
    for (int attempt = 0; attempt < 1000; ++attempt) {
      out = edge.chat_completions({.body = request(text, "Where?").dump()});
      if (out.status != 429) break;
      std::this_thread::yield();
    }
    return out;
  }
  static std::string accounts(const MemoryLedger& memory) {
    std::string out;
    for (const auto& each : memory.accounts()) out += fmt::format(" {} {}", each.name, each.bytes);
    return out;
  }
  static json chat(const std::string& content) {
    return {{"messages", {{{"role", "user"}, {"content", content}}}}, {"max_tokens", 1}};
  }
  static std::string megabytes(int n) {
    std::string out;
    while (out.size() < static_cast<std::size_t>(n) << 20) out += "the crate is in the container ";
    return out;
  }
};

TEST_F(EdgeMemoryTest, AMessageOfMegabytesIsRefusedWithoutMemoryToTokenizeIt) {
  const auto memory = std::make_shared<MemoryLedger>(8U << 20);
  const auto e = alone(memory, {});
  const json answer = post(*e, chat(megabytes(4)), 400);
  EXPECT_EQ(answer["error"]["code"], "context_length_exceeded");
  EXPECT_THAT(answer["error"]["message"].get<std::string>(), HasSubstr("more than 2048 tokens"));
  EXPECT_EQ(held(*memory, "tokenizing"), 0U);
}

TEST_F(EdgeMemoryTest, ACompletionsPromptOfMegabytesLikewise) {
  const auto e = alone(std::make_shared<MemoryLedger>(8U << 20), {});
  const HttpResponse answer = e->completions({.body = json{{"prompt", megabytes(4)}}.dump()});
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(json::parse(answer.body)["error"]["code"], "context_length_exceeded");
}

TEST_F(EdgeMemoryTest, ALongTextThatMayFitIsRefusedWith429WhereThereIsNoMemoryToTokenizeIt) {
  // Blanks at the ends may be cut off by a template: only tokenizing shows.
  const json request = chat("hello" + std::string(200U << 10, ' '));
  const auto small = alone(std::make_shared<MemoryLedger>(8U << 20), {});
  const HttpResponse refused = small->chat_completions({.body = request.dump()});
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.headers.count("Retry-After"), 1U);
  EXPECT_EQ(json::parse(refused.body)["error"]["code"], "overloaded");
}

TEST_F(EdgeMemoryTest, AContextOfMegabytesIsRefusedByTheCloudByCounting) {
  const HttpResponse answer =
      server_->handle({.method = "POST", .path = "/v1/contexts", .body = json{{"text", megabytes(3)}}.dump()});
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(json::parse(answer.body)["error"]["code"], "invalid_context");
  EXPECT_THAT(answer.body, HasSubstr("more than 2048 tokens"));
}

TEST_F(EdgeMemoryTest, ContextsThatNobodyUsesAreEvictedForNewOnes) {
  const std::string a = long_text('a');
  const std::string b = long_text('b');
  const auto memory = std::make_shared<MemoryLedger>(64U << 20);
  const auto e = alone(memory, {a, b});
  const json first = ask(*e, a);
  e->wait_until_loaded();  // until then its thread has a use for it
  wait_until_let_go(*memory);
  const std::uint64_t one = held(*memory, "contexts");
  EXPECT_GE(one, context_bytes(a) / 2);
  const auto others = *memory->take("others", memory->available_bytes() - kRequestBytes - one / 2);
  const HttpResponse second = ask_until_there_is_room(*e, b);
  ASSERT_EQ(second.status, 200) << second.body << accounts(*memory);
  EXPECT_EQ(said(json::parse(second.body)), said(local_answer(b)));
  EXPECT_LT(held(*memory, "contexts"), 2 * one) << "the first one has left";
  e->wait_until_loaded();
  wait_until_let_go(*memory);
  const HttpResponse third = ask_until_there_is_room(*e, a);
  ASSERT_EQ(third.status, 200) << third.body << accounts(*memory);
  EXPECT_EQ(said(json::parse(third.body)), said(first));
  EXPECT_LE(memory->used_bytes(), memory->limit_bytes());
}

TEST_F(EdgeMemoryTest, AContextForWhichThereIsNoMemoryIsRefusedWith429AndNothingStays) {
  const std::string text = long_text();
  const auto memory = std::make_shared<MemoryLedger>(context_bytes(text) + (2U << 20));
  const auto e = alone(memory, {text});
  {
    const auto others = *memory->take("others", memory->available_bytes() - context_bytes(text) / 2);
    const HttpResponse refused = e->chat_completions({.body = request(text, "Where?").dump()});
    EXPECT_EQ(refused.status, 429) << refused.body;
    EXPECT_EQ(held(*memory, "contexts"), 0U);
  }
  EXPECT_EQ(held(*memory, "others"), 0U);
}

TEST_F(EdgeMemoryTest, WhatAContextNeedsToBeComputedIsReturned) {
  const auto memory = std::make_shared<MemoryLedger>();
  const auto e = alone(memory, {long_text()});
  ask(*e, long_text());
  wait_until_let_go(*memory);
  EXPECT_GT(held(*memory, "contexts"), 0U);
  const auto accounts = memory->accounts();
  const auto computing = std::ranges::find(accounts, "computing", &MemoryLedger::Account::name);
  ASSERT_NE(computing, accounts.end());
  EXPECT_GT(computing->most_bytes, 0U);
  EXPECT_EQ(computing->bytes, 0U);
  EXPECT_THAT(e->metrics().body, HasSubstr("celslm_edge_memory_bytes{account=\"contexts\"}"));
}

}  // namespace
}  // namespace celslm
