// The parts of routing that need no edge: figures of nodes, events on their way through, confidence and rules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>
#include <semaphore>
#include <stop_token>
#include <thread>

#include "core/log.h"
#include "net/http_stream.h"
#include "serve/route/cascade_rule.h"
#include "serve/route/confidence.h"
#include "serve/route/forwarder.h"
#include "serve/route/node_figures.h"
#include "serve/route/node_watch.h"
#include "serve/route/passed_events.h"
#include "tests/support/manual_clock.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

NodeFigures figures() {
  return {.model = hash_of("model"),
          .model_name = "small",
          .accepts = false,
          .running = 3,
          .queued = 2,
          .places = 8,
          .prefill_tokens_per_s = 512.5,
          .decode_tokens_per_s = 40,
          .context_load_s = 1.5,
          .held = {context_handle("a"), context_handle("b")}};
}

TEST(NodeFiguresTest, AreReadAsTheyWereWritten) {
  const auto read = node_figures_from(to_json(figures()).dump());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(to_json(*read), to_json(figures()));
}

TEST(NodeFiguresTest, OtherShapesAreRefusedByField) {
  for (const char* field : {"model", "accepts", "running", "queued", "places", "held"}) {
    json wrong = to_json(figures());
    wrong[field] = "x";
    const auto read = node_figures_from(wrong.dump());
    ASSERT_FALSE(read) << field;
    EXPECT_THAT(read.error().message, HasSubstr(field));
  }
}

TEST(NodeFiguresTest, OneContextTooManyIsRefused) {
  NodeFigures many = figures();
  many.held.assign(kMaxHeldContexts, context_handle("a"));
  const std::string body = to_json(many).dump();
  EXPECT_LE(body.size(), kMaxNodeBytes);
  EXPECT_TRUE(node_figures_from(body));
  many.held.push_back(context_handle("b"));
  EXPECT_FALSE(node_figures_from(to_json(many).dump()));
}

TEST(NodeFiguresTest, OfAnEarlierVersionSayNothingOfLoads) {
  json earlier = to_json(figures());
  earlier.erase("context_load_s");
  const auto read = node_figures_from(earlier.dump());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->context_load_s, 0);
  EXPECT_EQ(candidate_of(figures(), "b", RouteClass::kNeighbour).context_fetch_s, 1.5);
}

class FiguresClient final : public HttpClient {
 public:
  Result<HttpAnswer> call(const HttpCall&) override {
    const std::string body = to_json(figures()).dump();
    return HttpAnswer{.status = 200, .body = Bytes(as_bytes(body).begin(), as_bytes(body).end())};
  }
  std::string base_url() const override { return "local://busy"; }
};

TEST(NodeWatchTest, AddsTheRequestsThatTheFiguresCannotHaveYet) {
  testing_support::ManualClock clock;
  const std::stop_source first;
  const std::stop_source second;
  NodeWatch watch({{.client = std::make_shared<FiguresClient>()}}, hash_of("model"), clock, WatchOptions(), null_log());
  const auto queued = [&] { return watch.nodes(std::nullopt).front().candidate.queued; };
  watch.read_all();
  EXPECT_EQ(queued(), figures().queued);
  watch.began("local://busy", first);
  watch.began("local://busy", second);
  EXPECT_EQ(queued(), figures().queued + 2) << "although it has more running than were sent";
  watch.ended("local://busy", first, false);
  EXPECT_EQ(queued(), figures().queued + 1);
  watch.read_all();
  EXPECT_EQ(queued(), figures().queued) << "its figures have the other one";
}

TEST(PassedEventsTest, EventsAreCutHoweverTheirBytesArrive) {
  const std::string text = "data: {\"a\":1}\n\n: waiting\n\nevent: x\ndata: {}\n\ndata: [DONE]\n\n";
  for (std::size_t step = 1; step <= text.size(); ++step) {
    EventSplitter splitter;
    std::vector<std::string> all;
    for (std::size_t at = 0; at < text.size(); at += step) {
      const auto events = splitter.add(std::string_view(text).substr(at, step));
      ASSERT_TRUE(events);
      all.insert(all.end(), events->begin(), events->end());
    }
    EXPECT_THAT(all, ElementsAre("data: {\"a\":1}\n\n", "event: x\ndata: {}\n\n", "data: [DONE]\n\n")) << step;
  }
}

TEST(PassedEventsTest, AnEventWithoutAnEndIsRefused) {
  EventSplitter splitter;
  EXPECT_TRUE(splitter.add(std::string(kMaxEventBytes, 'x')));
  EXPECT_FALSE(splitter.add("x"));
}

TEST(PassedEventsTest, TheFirstTokenIsToldFromWhatComesBefore) {
  using enum EventKind;
  const auto chunk = [](const json& choice) { return "data: " + json{{"choices", json::array({choice})}}.dump() + "\n\n"; };
  EXPECT_EQ(kind_of_event(chunk({{"delta", {{"role", "assistant"}, {"content", ""}}}, {"finish_reason", nullptr}})),
            kBefore);
  EXPECT_EQ(kind_of_event(chunk({{"delta", {{"content", "a"}}}})), kText);
  EXPECT_EQ(kind_of_event(chunk({{"delta", {{"reasoning_content", "a"}}}})), kText);
  EXPECT_EQ(kind_of_event(chunk({{"delta", {{"tool_calls", json::array()}}}})), kText);
  EXPECT_EQ(kind_of_event(chunk({{"text", "a"}})), kText);
  EXPECT_EQ(kind_of_event(chunk({{"delta", json::object()}, {"finish_reason", "stop"}})), kText);
  EXPECT_EQ(kind_of_event("data: {\"error\":{\"message\":\"x\"}}\n\n"), kError);
  EXPECT_EQ(kind_of_event("event: response.created\ndata: {\"type\":\"response.created\"}\n\n"), kBefore);
  EXPECT_EQ(kind_of_event("event: x\ndata: {\"type\":\"response.output_text.delta\"}\n\n"), kText);
  EXPECT_EQ(kind_of_event("event: x\ndata: {\"type\":\"response.failed\"}\n\n"), kError);
  EXPECT_TRUE(is_last_event("data: [DONE]\n\n"));
}

TEST(PassedEventsTest, NotesAreAddedToTheExtensionAndToNothingElse) {
  const json notes = {{"routing", {{"node", "b"}}}};
  const auto data = [](const std::string& event) { return json::parse(event.substr(event.find("data: ") + 6)); };
  const std::string last = with_notes("data: {\"x_celslm\":{\"engine\":\"celslm\"}}\n\n", notes);
  EXPECT_EQ(data(last)["x_celslm"], json({{"engine", "celslm"}, {"routing", {{"node", "b"}}}}));
  const std::string response = with_notes("event: response.completed\ndata: {\"response\":{\"x_celslm\":{}}}\n\n", notes);
  EXPECT_TRUE(response.starts_with("event: response.completed\n"));
  EXPECT_EQ(data(response)["response"]["x_celslm"], notes);
  const std::string text = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"x_celslm\\\": {}\"}}]}\n\n";
  EXPECT_EQ(with_notes(text, notes), text);
  EXPECT_FALSE(answer_with_notes("{\"choices\":[]}", notes));
  EXPECT_FALSE(answer_with_notes("<html>", notes));
  EXPECT_FALSE(answer_with_notes("{\"x_celslm\":{}}", notes)) << "it has no answer";
}

TokenText token(double p, double best_other) {
  TokenText out{.bytes = "t", .logprob = static_cast<float>(std::log(p)), .top = {}};
  out.top = {{"t", out.logprob}, {"o", static_cast<float>(std::log(best_other))}};
  std::ranges::sort(out.top, std::greater(), [](const auto& entry) { return entry.second; });
  return out;
}

TEST(ConfidenceTest, MeasuresAreWhatTheFormulasGive) {
  ConfidenceMeter meter;
  const std::vector tokens{token(0.5, 0.25), token(0.8, 0.1), token(0.2, 0.6)};
  meter.add(std::span(tokens).first(1));
  meter.add(std::span(tokens).subspan(1));
  const Confidence value = meter.value();
  EXPECT_EQ(value.tokens, 3);
  EXPECT_NEAR(value.least_probability, 0.2, 1e-6);
  EXPECT_NEAR(value.mean_probability, std::cbrt(0.5 * 0.8 * 0.2), 1e-6);
  EXPECT_NEAR(value.least_margin, -0.4, 1e-6);
  EXPECT_NEAR(value.mean_margin, (0.25 + 0.7 - 0.4) / 3, 1e-6);
  EXPECT_NEAR(value.first_probability, 0.5, 1e-6);
}

TEST(ConfidenceTest, AnEmptyAnswerIsCertain) {
  EXPECT_EQ(ConfidenceMeter().value().least_probability, 1);
}

TEST(ConfidenceTest, AgreementCountsCommonWords) {
  EXPECT_EQ(agreement("The red crate.", "the RED crate"), 1);
  EXPECT_EQ(agreement("red", "blue"), 0);
  EXPECT_NEAR(agreement("red red crate", "red crate"), 2.0 * 2 / 5, 1e-12);
  EXPECT_EQ(agreement("", " ."), 1);
  EXPECT_EQ(agreement("", "a"), 0);
}

TEST(CascadeRuleTest, KeepsWhatReachesTheThreshold) {
  const auto rule = cascade_rule_from(R"({"measure": "mean_margin", "threshold": 0.5, "share": 0.4})");
  ASSERT_TRUE(rule) << rule.error().message;
  EXPECT_FALSE(rule->needs_second_answer());
  EXPECT_TRUE(rule->keeps({.mean_margin = 0.5}));
  EXPECT_FALSE(rule->keeps({.mean_margin = 0.49}));
}

TEST(CascadeRuleTest, AWeightedScoreIsASum) {
  const auto rule = cascade_rule_from(
      R"({"measure": "weighted", "weights": {"bias": -1, "least_probability": 2, "agreement": 0.5}, "threshold": 0})");
  ASSERT_TRUE(rule) << rule.error().message;
  EXPECT_TRUE(rule->needs_second_answer());
  EXPECT_NEAR(rule->score({.least_probability = 0.25, .agreement = 0.6}), -1 + 0.5 + 0.3, 1e-12);
}

TEST(CascadeRuleTest, OtherFilesAreRefusedByField) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({"threshold": 1})", "measure"},
      {R"({"measure": "mood", "threshold": 1})", "measure"},
      {R"({"measure": "agreement"})", "threshold"},
      {R"({"measure": "weighted", "threshold": 1})", "weights"},
      {R"({"measure": "weighted", "weights": {"mood": 1}, "threshold": 1})", "weights"},
      {R"({"measure": "agreement", "threshold": 1, "model": "x"})", "model"}};
  for (const auto& [text, field] : cases) {
    const auto rule = cascade_rule_from(text);
    ASSERT_FALSE(rule) << text;
    EXPECT_THAT(rule.error().message, HasSubstr(field)) << text;
  }
}

// Answers nothing until the call is cancelled.
class SilentClient final : public HttpClient {
 public:
  Result<HttpAnswer> call(const HttpCall& call) override {
    std::binary_semaphore stopped(0);
    const std::stop_callback release(call.stop, [&] { stopped.release(); });
    stopped.acquire();
    return fail(ErrorKind::kCancelled, "cancelled");
  }
  std::string base_url() const override { return "local://silent"; }
};

// A stream of comments and of nothing else, until its reader has enough.
class DrippingClient final : public HttpClient {
 public:
  Result<HttpAnswer> call(const HttpCall& call) override {
    const std::string_view comment = ": waiting\n\n";
    for (std::uint64_t n = comment.size(); call.sink(as_bytes(comment)) && call.watch({.received = n}); n += comment.size())
      std::this_thread::yield();
    return fail(ErrorKind::kCancelled, "cancelled");
  }
  std::string base_url() const override { return "local://dripping"; }
};

class KeptReply final : public HttpReply {
 public:
  void send(HttpResponse response) override { status = response.status; }
  bool gone() const override { return false; }
  void on_gone(std::function<void()> left) override { leave = std::move(left); }
  std::atomic<int> status = 0;
  std::function<void()> leave;
};

class ManyForwardedTest : public testing::Test {
 protected:
  std::shared_ptr<KeptReply> forward(std::shared_ptr<HttpClient> to = std::make_shared<SilentClient>(),
                                     std::chrono::milliseconds stream_timeout = {}) {
    const HttpResponse response = forwarder_.forward({.client = std::move(to),
                                                      .node = "silent",
                                                      .streamed = stream_timeout.count() > 0,
                                                      .timeout = stream_timeout,
                                                      .notes = json::object(),
                                                      .otherwise = [](const Error&) { return HttpResponse{.status = 299}; },
                                                      .began = [this] { ++under_way_; },
                                                      .ended =
                                                          [this](ForwardEnd end, const HttpTraffic&, std::int64_t) {
                                                            last_end_ = end;
                                                            --under_way_;
                                                          }});
    auto reply = std::make_shared<KeptReply>();
    response.deferred(reply);
    return reply;
  }

  std::atomic<int> under_way_ = 0;
  std::atomic<ForwardEnd> last_end_ = ForwardEnd::kAnswered;
  Forwarder forwarder_{null_log()};
};

TEST_F(ManyForwardedTest, OneMoreThanThereAreThreadsIsAnsweredHereAtOnce) {
  ASSERT_TRUE(forwarder_.start());
  std::vector<std::shared_ptr<KeptReply>> replies;
  for (int i = 0; i < kForwarderThreads; ++i) replies.push_back(forward());
  EXPECT_EQ(under_way_, kForwarderThreads);
  EXPECT_EQ(forward()->status, 299);
  EXPECT_EQ(last_end_, ForwardEnd::kNotAsked);
  for (const auto& reply : replies) EXPECT_EQ(reply->status, 0);
  forwarder_.finish();
  EXPECT_EQ(under_way_, 0);
  for (const auto& reply : replies) EXPECT_EQ(reply->status, 503);
}

TEST_F(ManyForwardedTest, AClientThatLeavesCancelsItsRequestAndIsAnsweredByNobody) {
  ASSERT_TRUE(forwarder_.start());
  const auto reply = forward();
  reply->leave();
  while (reply->status == 0) std::this_thread::yield();
  EXPECT_EQ(reply->status, 499);
  EXPECT_EQ(last_end_, ForwardEnd::kCancelled);
}

TEST_F(ManyForwardedTest, AStreamOfCommentsIsNotWaitedForLongerThanACompleteAnswer) {
  ASSERT_TRUE(forwarder_.start());
  const auto reply = forward(std::make_shared<DrippingClient>(), std::chrono::milliseconds(1));
  while (reply->status == 0) std::this_thread::yield();
  EXPECT_EQ(reply->status, 299);
  EXPECT_EQ(last_end_, ForwardEnd::kFailed);
}

TEST(PassedEventsTest, TokensAreWhatUsageReportsWithinReason) {
  EXPECT_EQ(answer_tokens({{"usage", {{"completion_tokens", 7U}}}}), 7);
  EXPECT_EQ(answer_tokens({{"usage", {{"output_tokens", 8U}}}}), 8);
  EXPECT_EQ(answer_tokens({{"usage", {{"completion_tokens", 18446744073709551615ULL}}}}), kMaxReportedTokens);
  for (const json& odd : {json(-5), json(1e300), json("9"), json()})
    EXPECT_EQ(answer_tokens({{"usage", {{"completion_tokens", odd}}}}), 0) << odd;
  EXPECT_EQ(answer_tokens({{"usage", "none"}}), 0);
}

}  // namespace
}  // namespace celslm
