// Responses that outlive their handlers: the two ends of a pushed body and of a deferred response, and both over a socket.
#include "net/http_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/mutex.h"
#include "net/body_queue.h"
#include "net/http_server.h"
#include "net/pending_reply.h"
#include "tests/support/eventually.h"
#include "tests/support/raw_socket.h"

namespace celslm {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing_support::eventually;
using testing_support::RawPeer;

// --- the ends --------------------------------------------------------------------------------------------------------

class BodyQueueTest : public testing::Test {
 protected:
  std::shared_ptr<BodyQueue> make() {
    return std::make_shared<BodyQueue>([this] { ++wakes_; }, [this](auto call) { calls_.push_back(std::move(call)); });
  }
  void run_calls() {
    for (const auto& call : std::exchange(calls_, {})) call();
  }
  int wakes_ = 0;
  std::vector<std::function<void()>> calls_;
};

TEST_F(BodyQueueTest, GivesThePiecesInOrderAndThenTheEnd) {
  const auto queue = make();
  EXPECT_TRUE(queue->push("a"));
  EXPECT_TRUE(queue->push("b"));
  EXPECT_EQ(wakes_, 1) << "one wake-up for what is taken together";
  EXPECT_THAT(queue->take().pieces, ElementsAre("a", "b"));
  queue->end();
  EXPECT_EQ(queue->take().end, BodyQueue::End::kComplete);
  EXPECT_FALSE(queue->push("c"));
}

TEST_F(BodyQueueTest, CallsWhenThereIsRoomAgain) {
  const auto queue = make();
  int calls = 0;
  queue->on_change([&] { ++calls; });
  EXPECT_EQ(queue->room(), kBodyWindowBytes);
  EXPECT_TRUE(queue->push(std::string(kBodyWindowBytes, 'x')));
  EXPECT_EQ(queue->room(), 0U);
  queue->take();
  queue->sent(1);
  run_calls();
  EXPECT_EQ(calls, 0) << "not for every byte";
  queue->sent(kBodyWindowBytes - 1);
  run_calls();
  EXPECT_EQ(calls, 1);
}

TEST_F(BodyQueueTest, EndsTheStreamOfAClientThatFallsFarBehind) {
  const auto queue = make();
  EXPECT_TRUE(queue->push(std::string(kMaxUnsentBytes + 1, 'x'))) << "a piece may have any size";
  EXPECT_FALSE(queue->push("y"));
  EXPECT_EQ(queue->take().end, BodyQueue::End::kAborted);
}

TEST_F(BodyQueueTest, CallsOnceWhenTheClientHasGoneAndLetsGoOfTheCallback) {
  const auto queue = make();
  auto token = std::make_shared<int>(0);
  queue->on_change([token] { ++*token; });
  queue->drop();
  queue->drop();
  run_calls();
  EXPECT_EQ(*token, 1);
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_TRUE(queue->gone());
  EXPECT_FALSE(queue->push("a"));
}

TEST_F(BodyQueueTest, CallsAtOnceIfTheClientHasGoneAlready) {
  const auto queue = make();
  queue->drop();
  int calls = 0;
  queue->on_change([&] { ++calls; });
  run_calls();
  EXPECT_EQ(calls, 1);
}

TEST_F(BodyQueueTest, AProducerThatForgetsItsBodyAbortsIt) {
  const auto queue = make();
  BodyQueue::writer(queue)->push("a");
  EXPECT_EQ(queue->take().end, BodyQueue::End::kAborted);
}

TEST_F(BodyQueueTest, ACallThatEndsTheBodyMayOwnIt) {
  const auto queue = make();
  std::weak_ptr<BodyQueue> alive = queue;
  auto writer = BodyQueue::writer(queue);
  writer->on_change([writer] { writer->abort(); });
  writer.reset();
  queue->drop();
  run_calls();
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(PendingReplyTest, GivesTheFirstResponseOnly) {
  int wakes = 0;
  const auto reply = std::make_shared<PendingReply>([&] { ++wakes; }, [](auto call) { call(); });
  EXPECT_FALSE(reply->take());
  reply->send({.status = 201});
  reply->send({.status = 202});
  EXPECT_EQ(reply->take()->status, 201);
  EXPECT_FALSE(reply->take());
  EXPECT_EQ(wakes, 1);
}

TEST(PendingReplyTest, AProducerThatForgetsItSendsTheOtherResponse) {
  const auto reply = std::make_shared<PendingReply>([] {}, [](auto call) { call(); });
  PendingReply::sender(reply, {.status = 500});
  EXPECT_EQ(reply->take()->status, 500);
}

TEST(PendingReplyTest, TellsThatTheClientHasGoneUnlessItWasAnswered) {
  int calls = 0;
  const auto reply = std::make_shared<PendingReply>([] {}, [](auto call) { call(); });
  reply->on_gone([&] { ++calls; });
  reply->drop();
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(reply->gone());
  const auto answered = std::make_shared<PendingReply>([] {}, [](auto call) { call(); });
  answered->on_gone([&] { ++calls; });
  answered->send({});
  answered->drop();
  EXPECT_EQ(calls, 1);
}

// --- over a socket ---------------------------------------------------------------------------------------------------

// What a handler has handed out.
template <typename T>
class Slot {
 public:
  void set(std::shared_ptr<T> value) {
    const MutexLock lock(mutex_);
    value_ = std::move(value);
  }
  std::shared_ptr<T> wait() {
    std::shared_ptr<T> out;
    EXPECT_TRUE(eventually([&] {
      const MutexLock lock(mutex_);
      out = std::exchange(value_, nullptr);
      return out != nullptr;
    }));
    return out;
  }

 private:
  Mutex mutex_;
  std::shared_ptr<T> value_ CELSLM_GUARDED_BY(mutex_);
};

class HttpStreamTest : public testing::Test {
 protected:
  HttpStreamTest() : server_(*HttpServer::create({.n_threads = 2}, null_log())) {
    server_->route("GET", "/pushed", [this](const HttpRequest&) {
      return HttpResponse{.content_type = "text/plain", .pushed = [this](auto body) { bodies_.set(std::move(body)); }};
    });
    server_->route("GET", "/sized", [this](const HttpRequest&) {
      return HttpResponse{.pushed = [this](auto body) { bodies_.set(std::move(body)); }, .content_length = 4};
    });
    server_->route("GET", "/deferred", [this](const HttpRequest&) {
      return HttpResponse{.deferred = [this](auto reply) { replies_.set(std::move(reply)); }};
    });
    EXPECT_TRUE(server_->start());
  }
  ~HttpStreamTest() override { server_->stop(std::chrono::milliseconds(0)); }

  RawPeer get(const std::string& path) {
    RawPeer peer = RawPeer::connect(server_->port());
    peer.send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
    return peer;
  }

  Slot<BodyWriter> bodies_;
  Slot<HttpReply> replies_;
  const std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpStreamTest, SendsWhatIsPushedFromAnotherThread) {
  RawPeer peer = get("/pushed");
  const auto body = bodies_.wait();
  EXPECT_TRUE(body->push("one"));
  EXPECT_THAT(peer.read_until("one\r\n"), HasSubstr("Transfer-Encoding: chunked"));
  EXPECT_TRUE(body->push("two"));
  body->end();
  EXPECT_EQ(peer.read_until("0\r\n\r\n"), "3\r\ntwo\r\n0\r\n\r\n");
  peer.send("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(peer.read_message(), HasSubstr("404")) << "the connection serves further requests";
}

TEST_F(HttpStreamTest, SendsAPushedBodyOfKnownLength) {
  RawPeer peer = get("/sized");
  const auto body = bodies_.wait();
  EXPECT_TRUE(body->push("ab"));
  EXPECT_TRUE(body->push("cd"));
  body->end();
  EXPECT_THAT(peer.read_message(), HasSubstr("Content-Length: 4\r\n"));
}

TEST_F(HttpStreamTest, ABodyThatEndsShortIsAborted) {
  RawPeer peer = get("/sized");
  const auto body = bodies_.wait();
  EXPECT_TRUE(body->push("ab"));
  body->end();
  EXPECT_THAT(peer.read_to_end(), testing::EndsWith("ab"));
}

TEST_F(HttpStreamTest, AnAbortedBodyHasNoEnd) {
  RawPeer peer = get("/pushed");
  const auto body = bodies_.wait();
  EXPECT_TRUE(body->push("one"));
  body->abort();
  EXPECT_THAT(peer.read_to_end(), Not(HasSubstr("0\r\n\r\n")));
}

TEST_F(HttpStreamTest, TellsTheProducerOfAResetBeforeTheFirstByte) {
  RawPeer peer = get("/pushed");
  const auto body = bodies_.wait();
  std::atomic<int> calls{0};
  body->on_change([&] { ++calls; });
  peer.reset();
  EXPECT_TRUE(eventually([&] { return calls == 1; }));
  EXPECT_TRUE(body->gone());
  EXPECT_FALSE(body->push("x"));
}

TEST_F(HttpStreamTest, AStreamGoesOnAfterAHalfClose) {
  RawPeer peer = get("/pushed");
  const auto body = bodies_.wait();
  peer.end_sending();
  EXPECT_TRUE(body->push("still"));
  EXPECT_THAT(peer.read_until("still"), HasSubstr("still"));
  EXPECT_FALSE(body->gone());
  body->end();
  EXPECT_THAT(peer.read_to_end(), testing::EndsWith("0\r\n\r\n"));
}

TEST_F(HttpStreamTest, ADeferredResponseComesFromAnotherThread) {
  RawPeer peer = get("/deferred");
  replies_.wait()->send({.status = 201, .body = "later"});
  EXPECT_THAT(peer.read_message(), testing::AllOf(HasSubstr("201 Created"), HasSubstr("\r\n\r\nlater")));
}

TEST_F(HttpStreamTest, ADeferredResponseMayBePushed) {
  RawPeer peer = get("/deferred");
  replies_.wait()->send({.pushed = [this](auto body) { bodies_.set(std::move(body)); }});
  const auto body = bodies_.wait();
  EXPECT_TRUE(body->push("x"));
  body->end();
  EXPECT_THAT(peer.read_until("0\r\n\r\n"), HasSubstr("1\r\nx\r\n"));
}

TEST_F(HttpStreamTest, TellsTheProducerOfADeferredResponseThatTheClientHasClosed) {
  RawPeer peer = get("/deferred");
  const auto reply = replies_.wait();
  std::atomic<int> calls{0};
  reply->on_gone([&] { ++calls; });
  EXPECT_FALSE(reply->gone());
  peer.close();
  EXPECT_TRUE(eventually([&] { return calls == 1; }));
  EXPECT_TRUE(reply->gone());
  reply->send({});
}

TEST_F(HttpStreamTest, AForgottenReplyIsA500) {
  RawPeer peer = get("/deferred");
  replies_.wait();
  EXPECT_THAT(peer.read_message(), HasSubstr("500 Internal Server Error"));
}

}  // namespace
}  // namespace celslm
