#include "net/budgeted_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/support/manual_clock.h"
#include "tests/support/raw_socket.h"

namespace celslm {
namespace {

using testing::HasSubstr;
using testing_support::RawPeer;
using testing_support::RawServer;

constexpr std::uint64_t kPerHour = 3'200'000;

// Moves what it is told to, in steps.
class ScriptedClient final : public HttpClient {
 public:
  using Script = std::function<Result<HttpAnswer>(const HttpCall&)>;
  explicit ScriptedClient(Script script) : script_(std::move(script)) {}
  Result<HttpAnswer> call(const HttpCall& call) override { return script_(call); }
  std::string base_url() const override { return "local://cloud"; }

 private:
  const Script script_;
};

class BudgetedClientTest : public testing::Test {
 protected:
  std::unique_ptr<HttpClient> client(ScriptedClient::Script script) {
    return std::make_unique<BudgetedClient>(std::make_unique<ScriptedClient>(std::move(script)), budget_);
  }
  // Of the budget, by now.
  std::uint64_t used() const { return kPerHour - kPerHour / 32 - budget_->available(); }

  testing_support::ManualClock clock_;
  std::shared_ptr<ByteBudget> budget_ = std::make_shared<ByteBudget>(kPerHour, clock_, null_log());
};

TEST_F(BudgetedClientTest, ACallCostsWhatItMoved) {
  const auto http = client([&](const HttpCall& call) {
    EXPECT_GE(used(), 1'000'000U);  // reserved before the call
    call.watch({.sent = 300, .received = 700});
    return HttpAnswer{.status = 206};
  });
  ASSERT_TRUE(http->call({.path = "/blocks", .range = ByteRange{0, 1'000'000}}));
  EXPECT_EQ(used(), 1000U);
}

TEST_F(BudgetedClientTest, ARangeThatDoesNotFitIsNotAskedFor) {
  const auto http = client([](const HttpCall&) -> Result<HttpAnswer> {
    ADD_FAILURE() << "was asked";
    return HttpAnswer{};
  });
  const auto answer = http->call({.path = "/blocks", .range = ByteRange{0, kPerHour}});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kOverloaded);
  EXPECT_THAT(answer.error().message, HasSubstr("--max-bytes-per-hour"));
  EXPECT_EQ(used(), 0U);
}

TEST_F(BudgetedClientTest, ABodyOfUnknownLengthEndsWhereTheBudgetDoes) {
  std::uint64_t moved = 0;
  const auto http = client([&](const HttpCall& call) -> Result<HttpAnswer> {
    while (call.watch({.received = moved})) moved += 10'000;
    return fail(ErrorKind::kCancelled, "cancelled");
  });
  const auto answer = http->call({.path = "/v1/contexts"});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kOverloaded);
  EXPECT_LE(moved, kPerHour - kPerHour / 32 + 10'000);
  EXPECT_GT(moved, kPerHour - kPerHour / 32 - 80'000);
}

TEST_F(BudgetedClientTest, WhatIsExpectedIsReservedAndTheRestGivenBack) {
  const auto http = client([&](const HttpCall& call) {
    EXPECT_GE(used(), 500'000U);
    call.watch({.received = 20});
    return HttpAnswer{.status = 202};
  });
  ASSERT_TRUE(http->call({.path = "/header", .expected_body_bytes = 500'000}));
  EXPECT_EQ(used(), 20U);
}

TEST_F(BudgetedClientTest, ACallThatWasAbortedCountsAsIfAllOfItHadCome) {
  const auto http = client([](const HttpCall& call) -> Result<HttpAnswer> {
    call.watch({.sent = 200, .received = 10});
    return fail(ErrorKind::kCancelled, "cancelled");
  });
  EXPECT_FALSE(http->call({.path = "/blocks", .range = ByteRange{0, 1'000'000}}));
  EXPECT_GE(used(), 1'000'000U);
}

TEST_F(BudgetedClientTest, ACallThatNeverConnectedCostsNothing) {
  const auto http = client([](const HttpCall&) -> Result<HttpAnswer> { return fail(ErrorKind::kUnavailable, "refused"); });
  const auto answer = http->call({.path = "/blocks", .range = ByteRange{0, 1'000'000}});
  EXPECT_EQ(answer.error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(used(), 0U);
}

TEST_F(BudgetedClientTest, AnAnswerThatCameCompletelyIsNotThrownAway) {
  const auto http = client([](const HttpCall& call) {
    call.watch({.received = 2 * kPerHour});
    return HttpAnswer{.status = 200};
  });
  EXPECT_TRUE(http->call({.path = "/v1/contexts"}));
  EXPECT_EQ(budget_->available(), 0U);
}

// Over sockets: heads, chunks and bodies, to the byte or a little more.
TEST_F(BudgetedClientTest, CountsWhatASocketCarries) {
  const std::string chunked =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string("5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n");
  std::size_t request_bytes = 0;
  RawServer server([&](RawPeer& peer, int) {
    request_bytes = peer.read_message().size();
    peer.send(chunked);
  });
  BudgetedClient http(*make_http_client({.base_url = server.url(), .bearer_token = "token"}), budget_);
  const auto answer = http.call({.path = "/", .headers = {{"x-celslm-edge", "1"}}});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(as_text(answer->body), "helloworld");
  EXPECT_GE(used(), request_bytes + chunked.size() - 5);  // the chunk that ends it
  EXPECT_LE(used(), request_bytes + chunked.size() + 30);
}

TEST_F(BudgetedClientTest, AnAbortedCallOverSocketsIsCancelledInTheMiddle) {
  RawServer server([&](RawPeer& peer, int) {
    peer.read_message();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + std::string(8'000'000, 'x'));
    peer.read_to_end();
  });
  BudgetedClient http(*make_http_client({.base_url = server.url()}), budget_);
  const auto answer = http.call({.path = "/", .max_body_bytes = 200'000'000});
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("--max-bytes-per-hour"));
}

}  // namespace
}  // namespace celslm
