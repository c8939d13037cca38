#include "serve/cloud/held_lists.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <vector>

#include "net/http_stream.h"
#include "tests/support/manual_clock.h"

namespace celslm {
namespace {

using std::chrono::seconds;

// A client that waits for a held answer.
class Client final : public HttpReply {
 public:
  void send(HttpResponse response) override {
    const MutexLock lock(mutex_);
    if (!body_) body_ = std::move(response.body);
    sent_.notify_all();
  }
  bool gone() const override { return false; }
  void on_gone(std::function<void()> left) override { leave = std::move(left); }

  std::string body() {
    const MutexLock lock(mutex_);
    sent_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return body_.has_value(); });
    return *body_;
  }
  bool waits() {
    const MutexLock lock(mutex_);
    return !body_;
  }
  std::function<void()> leave;

 private:
  Mutex mutex_;
  ConditionVariable sent_;
  std::optional<std::string> body_ CELSLM_GUARDED_BY(mutex_);
};

class HeldListsTest : public testing::Test {
 protected:
  // A request whose answer is held; null if it came at once.
  std::shared_ptr<Client> ask(const std::string& since, seconds wait) {
    const HttpResponse response = held_.hold(since, wait);
    if (!response.deferred) return nullptr;
    auto client = std::make_shared<Client>();
    response.deferred(client);
    return client;
  }
  void change() {
    ++number_;
    held_.changed();
  }

  testing_support::ManualClock clock_;
  std::atomic<int> number_ = 1;
  std::atomic<int> answers_ = 0;
  HeldLists held_{clock_, [this] { return std::to_string(number_); },
                  [this](const std::string& since) {
                    ++answers_;
                    return HttpResponse{.body = since + " to " + std::to_string(number_)};
                  }};
};

TEST_F(HeldListsTest, AnswersAllAtOnceWhenSomethingChanges) {
  std::vector<std::shared_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(ask("1", seconds(180)));
  for (const auto& client : clients) EXPECT_TRUE(client->waits());
  change();
  for (const auto& client : clients) EXPECT_EQ(client->body(), "1 to 2");
  EXPECT_EQ(answers_, 1);  // made once
  EXPECT_EQ(held_.size(), 0U);
}

TEST_F(HeldListsTest, AnswersAtOnceWhoeverKnowsAnOlderState) {
  change();
  EXPECT_EQ(ask("1", seconds(180)), nullptr);
}

TEST_F(HeldListsTest, AnswersWithoutAChangeWhenTheTimeIsUp) {
  clock_.wait_for_sleepers(1);
  const auto late = ask("1", seconds(180));
  const auto early = ask("1", seconds(60));
  clock_.wait_for_sleepers(1);
  clock_.advance(seconds(60));
  EXPECT_EQ(early->body(), "1 to 1");
  EXPECT_TRUE(late->waits());
  clock_.wait_for_sleepers(1);
  clock_.advance(seconds(120));
  EXPECT_EQ(late->body(), "1 to 1");
}

// Between the handler and the server's call that defers the answer.
TEST_F(HeldListsTest, AChangeWhileARequestIsDeferredIsNotMissed) {
  const HttpResponse response = held_.hold("1", seconds(180));
  change();
  const auto client = std::make_shared<Client>();
  response.deferred(client);
  EXPECT_EQ(client->body(), "1 to 2");
}

TEST_F(HeldListsTest, ForgetsAClientThatHasLeft) {
  const auto client = ask("1", seconds(180));
  EXPECT_EQ(held_.size(), 1U);
  client->leave();
  EXPECT_EQ(held_.size(), 0U);
}

TEST_F(HeldListsTest, HoldsABoundedNumber) {
  std::vector<std::shared_ptr<Client>> clients;
  while (auto client = ask("1", seconds(180))) clients.push_back(std::move(client));
  EXPECT_GE(clients.size(), 10U);
  clients.front()->leave();
  EXPECT_NE(ask("1", seconds(180)), nullptr);
}

TEST_F(HeldListsTest, AnswersEverybodyWhenTheCloudStops) {
  const auto client = ask("1", seconds(180));
  held_.stop();
  EXPECT_EQ(client->body(), "1 to 1");
  EXPECT_EQ(ask("1", seconds(180)), nullptr);
}

}  // namespace
}  // namespace celslm
