// Requests that may be answered elsewhere: two edges with the same model, an edge with another one in the part of the large
// model, and a network of function calls between them.
#include <atomic>
#include <thread>

#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"
#include "serve/route/node_watch.h"

namespace celslm {
namespace {

using namespace testing_support;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kSecret = "Who took crate 4 from the pier?";

// Adds edges that may be asked to the ones made later. All are as fast as each other, and the clock stands still.
class RoutingEdgeTest : public EdgeFixture {
 protected:
  static EdgeOptions with(RequestPolicy policy) {
    EdgeOptions out;
    out.routing.policy = policy;
    out.routing.assumed_prefill_tokens_per_s = 1000;
    out.routing.assumed_decode_tokens_per_s = 50;
    return out;
  }
  EdgeOptions cascading(double threshold, const std::string& measure = "least_probability") {
    EdgeOptions out = with(RequestPolicy::kCloud);
    out.routing.cascade = CascadeRule{.measure = measure, .threshold = threshold};
    return out;
  }

  struct Other {
    std::unique_ptr<EdgeService> service;
    std::unique_ptr<LocalServer> server;
    LocalClient* client = nullptr;  // of the edges made later
    std::shared_ptr<NodeWatch> watch;
  };
  // An edge that holds `text`, if any.
  Other& other(RouteClass node, const std::string& text, Fault fault = {}) {
    Other& out = *others_.emplace_back(std::make_unique<Other>());
    out.service = edge({}, with(RequestPolicy::kEdgeOnly));
    if (!text.empty()) ask(*out.service, text);
    out.service->wait_until_loaded();
    out.server = std::make_unique<LocalServer>(fmt::format("local://other{}", others_.size()));
    out.service->add_routes(*out.server);
    auto client = std::make_shared<LocalClient>(*out.server, std::move(fault));
    out.client = client.get();
    out.watch = std::make_shared<NodeWatch>(std::vector{WatchedNode{.client = client, .node = node}},
                                            model_->fingerprint().id(), clock_, WatchOptions(), null_log());
    out.watch->read_all();
    nodes_.push_back(out.watch);
    return out;
  }

  static json about(const std::string& text, const json& extension = json::object()) {
    json out = request(text, kSecret);
    if (!extension.empty()) out["x_celslm"] = extension;
    return out;
  }
  // The events of a stream, each as JSON; the last one is the word "done".
  static std::vector<json> stream(EdgeService& edge, json body) {
    body["stream"] = true;
    const HttpRequest request{.path = "/v1/chat/completions", .body = body.dump()};
    const HttpResponse response = edge.chat_completions(request);
    EXPECT_EQ(response.status, 200) << response.body;
    std::string text;
    if (response.stream) {
      response.stream([&](std::string_view piece) {
        text += piece;
        return true;
      });
    }
    std::vector<json> out;
    for (std::size_t at = text.find("data: "); at != std::string::npos; at = text.find("data: ", at + 1)) {
      const std::string line = text.substr(at + 6, text.find('\n', at) - at - 6);
      out.push_back(line == "[DONE]" ? json("done") : json::parse(line));
    }
    return out;
  }
  static std::string streamed_text(const std::vector<json>& events) {
    std::string out;
    for (const json& event : events) {
      if (event.is_object() && event.contains("choices") && event["choices"][0]["delta"].contains("content"))
        out += event["choices"][0]["delta"]["content"].get<std::string>();
    }
    return out;
  }
  // With the path that a server would have given.
  static json post(EdgeService& edge, const json& body, int status = 200) {
    const HttpResponse response = edge.chat_completions({.path = "/v1/chat/completions", .body = body.dump()});
    EXPECT_EQ(response.status, status) << response.body;
    return json::parse(response.body);
  }
  static std::string text_of(const json& answer) { return answer["choices"][0]["message"]["content"]; }

  static Fault failing_chats() {
    return [](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
      if (!call.path.contains("/chat/")) return go_on();
      return fail(ErrorKind::kUnavailable, "connection reset");
    };
  }
  // The answer's stream breaks off after so many events.
  static Fault ending_after(int n_events) {
    return [=](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
      if (!call.path.contains("/chat/")) return go_on();
      std::string text;
      HttpCall inner = call;
      const json role = {{"choices", {{{"index", 0}, {"delta", {{"role", "assistant"}, {"content", ""}}}}}}};
      const json word = {{"choices", {{{"index", 0}, {"delta", {{"content", "word "}}}}}}};
      for (int i = 0; i < n_events; ++i) text += "data: " + (i == 0 ? role : word).dump() + "\n\n";
      if (!call.sink(as_bytes(text))) return fail(ErrorKind::kCancelled, "cancelled");
      return fail(ErrorKind::kUnavailable, "connection reset");
    };
  }

  std::vector<std::unique_ptr<Other>> others_;
};

TEST_F(RoutingEdgeTest, UnderEdgeOnlyNothingOfTheUsersLeavesTheEdge) {
  put(long_text());
  Other& neighbour = other(RouteClass::kNeighbour, long_text());
  Other& large = other(RouteClass::kLargeModel, long_text());
  const auto e = edge({}, cascading(2));  // would hand over everything
  const std::string before = neighbour.client->sent() + large.client->sent();
  const json answer = post(*e, about(long_text(), {{"policy", "edge-only"}}));
  EXPECT_EQ(answer["x_celslm"]["routing"]["answered_by"], "self");
  EXPECT_EQ(answer["x_celslm"]["routing"]["reason"], "policy");
  stream(*e, about(long_text(), {{"policy", "edge-only"}}));
  EXPECT_EQ(neighbour.client->sent() + large.client->sent(), before);
  EXPECT_THAT(client_->sent(), Not(HasSubstr("crate 4")));
}

TEST_F(RoutingEdgeTest, EdgeOnlyIsWhatAppliesToRequestsThatDoNotChoose) {
  put(long_text());
  Other& neighbour = other(RouteClass::kNeighbour, long_text());
  const auto e = edge({}, with(RequestPolicy::kEdgeOnly));
  EXPECT_EQ(post(*e, about(long_text()))["x_celslm"]["routing"]["policy"], "edge-only");
  EXPECT_THAT(neighbour.client->sent(), Not(HasSubstr("POST")));
}

TEST_F(RoutingEdgeTest, ANeighbourThatHoldsTheContextAnswers) {
  put(long_text());
  Other& neighbour = other(RouteClass::kNeighbour, long_text());
  const json here = post(*edge(), about(long_text()));
  const auto e = edge({}, with(RequestPolicy::kFleet));
  const json answer = post(*e, about(long_text()));
  EXPECT_EQ(said(answer), said(here));
  const json& routing = answer["x_celslm"]["routing"];
  EXPECT_EQ(routing["answered_by"], "neighbour");
  EXPECT_EQ(routing["reason"], "holds context");
  EXPECT_EQ(routing["node"], "local://other1");
  ASSERT_EQ(routing["candidates"].size(), 2U);
  EXPECT_GT(routing["candidates"][0]["ttft_ms"], routing["candidates"][1]["ttft_ms"]);
  EXPECT_EQ(answer["x_celslm"]["layers"][0]["source"], "memory");  // the neighbour's
  EXPECT_THAT(neighbour.client->sent(), HasSubstr(kForwardedHeader));
  EXPECT_THAT(neighbour.client->sent(), HasSubstr("crate 4"));
  EXPECT_THAT(neighbour.client->sent(), Not(HasSubstr("Harbour bulletin")));  // its handle goes instead
}

TEST_F(RoutingEdgeTest, AForwardedStreamIsTheSameTextWithTheRouteAtItsEnd) {
  put(long_text());
  other(RouteClass::kNeighbour, long_text());
  const std::string here = text_of(post(*edge(), about(long_text())));
  const auto e = edge({}, with(RequestPolicy::kFleet));
  const auto events = stream(*e, about(long_text()));
  ASSERT_GE(events.size(), 3U);
  EXPECT_EQ(streamed_text(events), here);
  EXPECT_EQ(events.back(), "done");
  EXPECT_EQ(events[events.size() - 2]["x_celslm"]["routing"]["answered_by"], "neighbour");
}

TEST_F(RoutingEdgeTest, ResponsesAreForwardedToo) {
  put(long_text());
  other(RouteClass::kNeighbour, long_text());
  const auto e = edge({}, with(RequestPolicy::kFleet));
  json body = {{"instructions", long_text()}, {"input", kSecret}, {"max_output_tokens", 12}};
  const HttpResponse complete = e->responses({.path = "/v1/responses", .body = body.dump()});
  EXPECT_EQ(json::parse(complete.body)["x_celslm"]["routing"]["answered_by"], "neighbour");
  body["stream"] = true;
  const HttpRequest request{.path = "/v1/responses", .body = body.dump()};
  const HttpResponse streamed = e->responses(request);
  std::string text;
  ASSERT_TRUE(streamed.stream);
  EXPECT_TRUE(streamed.stream([&](std::string_view piece) {
    text += piece;
    return true;
  }));
  EXPECT_THAT(text, HasSubstr("event: response.output_text.delta"));
  EXPECT_THAT(text, HasSubstr("\"answered_by\":\"neighbour\""));
}

TEST_F(RoutingEdgeTest, ANeighbourThatFailsBeforeTheFirstTokenCostsNothing) {
  put(long_text());
  other(RouteClass::kNeighbour, long_text(), failing_chats());
  const std::string here = text_of(post(*edge(), about(long_text())));
  const auto e = edge({}, with(RequestPolicy::kFleet));
  const json answer = post(*e, about(long_text()));
  EXPECT_EQ(text_of(answer), here);
  EXPECT_EQ(answer["x_celslm"]["routing"]["answered_by"], "self");
  EXPECT_THAT(answer["x_celslm"]["routing"]["forwarding_failed"].get<std::string>(), HasSubstr("connection reset"));
  // Until it is heard of again it is not asked.
  EXPECT_EQ(post(*e, about(long_text()))["x_celslm"]["routing"]["reason"], "alone");
}

TEST_F(RoutingEdgeTest, AStreamThatFailsBeforeItsFirstTokenIsAnsweredHere) {
  put(long_text());
  other(RouteClass::kNeighbour, long_text(), ending_after(1));
  const std::string here = text_of(post(*edge(), about(long_text())));
  const auto e = edge({}, with(RequestPolicy::kFleet));
  const auto events = stream(*e, about(long_text()));
  EXPECT_EQ(streamed_text(events), here);
  EXPECT_EQ(events.back(), "done");
}

TEST_F(RoutingEdgeTest, AStreamThatFailsLaterEndsWithAnError) {
  put(long_text());
  other(RouteClass::kNeighbour, long_text(), ending_after(3));
  const auto e = edge({}, with(RequestPolicy::kFleet));
  const auto events = stream(*e, about(long_text()));
  EXPECT_EQ(streamed_text(events), "word word ");
  ASSERT_GE(events.size(), 2U);
  EXPECT_EQ(events.back(), "done");
  EXPECT_EQ(events[events.size() - 2]["error"]["code"], "unavailable");
}

TEST_F(RoutingEdgeTest, AForwardedRequestIsAnsweredWhereItArrives) {
  put(long_text());
  Other& neighbour = other(RouteClass::kNeighbour, long_text());
  const auto e = edge({}, with(RequestPolicy::kCloud));
  const HttpResponse response = e->chat_completions({.path = "/v1/chat/completions",
                                                     .headers = {{kForwardedHeader, "0123"}},
                                                     .body = about(long_text(), {{"policy", "cloud"}}).dump()});
  EXPECT_EQ(json::parse(response.body)["x_celslm"]["routing"]["reason"], "forwarded");
  EXPECT_THAT(neighbour.client->sent(), Not(HasSubstr("POST")));
}

TEST_F(RoutingEdgeTest, AnEdgeWithoutPlacesForwards) {
  Other& neighbour = other(RouteClass::kNeighbour, "");
  EdgeOptions full = with(RequestPolicy::kFleet);
  full.batch.max_running = 1;
  full.batch.max_queued = 0;
  put(long_text());
  const auto never = [](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
    if (!call.path.starts_with("/v1/packs/")) return go_on();
    wait_for_stop(call.stop);
    return fail(ErrorKind::kCancelled, "stopped");
  };
  const auto e = edge(never, full);
  std::atomic<bool> left = false;
  std::jthread waits_for_its_context([&] {
    (void)e->chat_completions({.body = request(long_text(), "Where?").dump(), .disconnected = [&] { return left.load(); }});
  });
  while (e->requests_under_way() == 0) std::this_thread::yield();
  const json answer = post(*e, request("Nothing shared.", kSecret));
  EXPECT_EQ(answer["x_celslm"]["routing"]["answered_by"], "neighbour");
  EXPECT_EQ(answer["x_celslm"]["routing"]["reason"], "overloaded");
  EXPECT_THAT(neighbour.client->sent(), Not(HasSubstr(kTenantHeader)));
  e->chat_completions({.path = "/v1/chat/completions",
                       .body = request("Nothing shared.", kSecret).dump(),
                       .caller = {.tenant = "acme", .all_tenants = false}});
  EXPECT_THAT(neighbour.client->sent(), HasSubstr(std::string(kTenantHeader) + ": acme"));
  EXPECT_EQ(post(*e, about("Nothing shared.", {{"policy", "edge-only"}}), 429)["error"]["code"], "overloaded");
  left = true;
}

TEST_F(RoutingEdgeTest, AnEdgesOwnTextsStay) {
  Other& neighbour = other(RouteClass::kNeighbour, "");
  EdgeOptions options = with(RequestPolicy::kCloud);
  options.contexts = {"Only for this house. " + long_text('z')};
  const auto e = edge({}, options);
  const json answer = post(*e, about(options.contexts.front()));
  EXPECT_EQ(answer["x_celslm"]["routing"]["reason"], "private");
  EXPECT_THAT(neighbour.client->sent(), Not(HasSubstr("POST")));
}

TEST_F(RoutingEdgeTest, ARequestOnlyNarrowsWhatItsClientMay) {
  put(long_text());
  other(RouteClass::kNeighbour, long_text());
  EdgeOptions options = with(RequestPolicy::kEdgeOnly);
  options.routing.widest = RequestPolicy::kFleet;
  const auto e = edge({}, options);
  const auto policy_for = [&](const std::string& of_key) {
    const HttpResponse response = e->chat_completions({.path = "/v1/chat/completions",
                                                       .body = about(long_text(), {{"policy", "cloud"}}).dump(),
                                                       .caller = {.widest_policy = of_key}});
    return json::parse(response.body)["x_celslm"]["routing"]["policy"].get<std::string>();
  };
  EXPECT_EQ(policy_for(""), "fleet");
  EXPECT_EQ(policy_for("cloud"), "fleet");
  EXPECT_EQ(policy_for("edge-only"), "edge-only");
}

TEST_F(RoutingEdgeTest, AnUnknownPolicyIsRefused) {
  const auto e = edge();
  const json answer = post(*e, about("Hello.", {{"policy", "anywhere"}}), 400);
  EXPECT_THAT(answer["error"]["message"].get<std::string>(), HasSubstr("x_celslm.policy"));
}

TEST_F(RoutingEdgeTest, ANeighbourWithAnotherModelIsNotAsked) {
  Other& out = other(RouteClass::kNeighbour, "");
  const auto client = std::make_shared<LocalClient>(*out.server);
  NodeWatch watch({{.client = client}}, hash_of("another model"), clock_, WatchOptions(), null_log());
  watch.read_all();
  EXPECT_TRUE(watch.nodes({}).empty());
  NodeWatch large({{.client = client, .node = RouteClass::kLargeModel}}, hash_of("another model"), clock_, WatchOptions(),
                  null_log());
  large.read_all();
  EXPECT_EQ(large.nodes({}).size(), 1U);
}

TEST_F(RoutingEdgeTest, ANodeThatIsNotHeardOfIsNotCountedOn) {
  Other& out = other(RouteClass::kNeighbour, "");
  EXPECT_EQ(out.watch->nodes({}).size(), 1U);
  clock_.advance(std::chrono::minutes(1));
  EXPECT_TRUE(out.watch->nodes({}).empty());
  out.watch->read_all();
  EXPECT_EQ(out.watch->nodes({}).size(), 1U);
}

TEST_F(RoutingEdgeTest, ARequestAtANodeThatHangsIsAnsweredHereWhenTwoReadingsHaveFailed) {
  put(long_text());
  std::atomic<bool> hangs = false;
  Other& neighbour =
      other(RouteClass::kNeighbour, long_text(), [&](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
        if (call.path == "/v1/node") return hangs ? fail(ErrorKind::kUnavailable, "timed out") : go_on();
        hangs = true;
        wait_for_stop(call.stop);
        return fail(ErrorKind::kCancelled, "stopped");
      });
  const std::string here = text_of(post(*edge(), about(long_text())));
  for (const bool streamed : {false, true}) {
    const auto e = edge({}, with(RequestPolicy::kFleet));  // which does not hold the context
    hangs = false;
    neighbour.watch->read_all();
    std::string text;
    std::jthread asks(
        [&] { text = streamed ? streamed_text(stream(*e, about(long_text()))) : text_of(post(*e, about(long_text()))); });
    while (!hangs) std::this_thread::yield();
    for (int i = 0; i < kMissedReadings; ++i) neighbour.watch->read_all();
    asks.join();
    EXPECT_EQ(text, here) << streamed;
    EXPECT_TRUE(neighbour.watch->nodes({}).empty());
  }
}

TEST_F(RoutingEdgeTest, ANodeThatMissesOneReadingKeepsWhatItWasSent) {
  bool misses = false;
  Other& neighbour = other(RouteClass::kNeighbour, "", [&](const HttpCall&, const auto& go_on) -> Result<HttpAnswer> {
    return misses ? fail(ErrorKind::kUnavailable, "timed out") : go_on();
  });
  const std::string id = neighbour.watch->nodes({}).front().candidate.id;
  std::stop_source sent;
  std::stop_source ended;
  neighbour.watch->began(id, sent);
  neighbour.watch->began(id, ended);
  neighbour.watch->ended(id, ended, false);
  for (const bool missed : {true, false, true}) {
    misses = missed;
    neighbour.watch->read_all();
    EXPECT_FALSE(sent.stop_requested());
  }
  neighbour.watch->read_all();
  EXPECT_TRUE(sent.stop_requested());
  EXPECT_FALSE(ended.stop_requested());
}

TEST_F(RoutingEdgeTest, TheCascadeKeepsACertainAnswerAsItWouldHaveBeen) {
  put(long_text());
  Other& large = other(RouteClass::kLargeModel, long_text());
  const json here = post(*edge(), about(long_text()));
  const auto e = edge({}, cascading(0));
  const json answer = post(*e, about(long_text()));
  EXPECT_EQ(said(answer), said(here));
  EXPECT_EQ(answer["x_celslm"]["cascade"]["answered_by"], "small");
  EXPECT_EQ(answer["x_celslm"]["cascade"]["threshold"], 0);
  EXPECT_EQ(streamed_text(stream(*e, about(long_text()))), text_of(here));
  EXPECT_THAT(large.client->sent(), Not(HasSubstr("POST")));
}

TEST_F(RoutingEdgeTest, TheLargeModelAnswersWhatIsUncertain) {
  put(long_text());
  Other& large = other(RouteClass::kLargeModel, long_text());
  const auto e = edge({}, cascading(1.5));
  const json answer = post(*e, about(long_text()));
  const json& cascade = answer["x_celslm"]["cascade"];
  EXPECT_EQ(cascade["answered_by"], "large");
  EXPECT_EQ(cascade["measure"], "least_probability");
  EXPECT_LT(cascade["value"].get<double>(), 1.0);
  EXPECT_EQ(answer["x_celslm"]["routing"]["answered_by"], "large");
  EXPECT_EQ(answer["x_celslm"]["layers"][0]["source"], "memory");  // its own resident KV of the context
  EXPECT_THAT(large.client->sent(), Not(HasSubstr("Harbour bulletin")));
  const auto events = stream(*e, about(long_text()));
  EXPECT_EQ(events[events.size() - 2]["x_celslm"]["cascade"]["answered_by"], "large");
}

TEST_F(RoutingEdgeTest, WithoutTheLargeModelTheSmallOnesAnswerCounts) {
  put(long_text());
  other(RouteClass::kLargeModel, long_text(), failing_chats());
  const std::string here = text_of(post(*edge(), about(long_text())));
  const auto e = edge({}, cascading(1.5));
  const json answer = post(*e, about(long_text()));
  EXPECT_EQ(text_of(answer), here);
  EXPECT_EQ(answer["x_celslm"]["cascade"]["answered_by"], "small");
  EXPECT_THAT(answer["x_celslm"]["cascade"]["forwarding_failed"].get<std::string>(), HasSubstr("connection reset"));
}

TEST_F(RoutingEdgeTest, ASecondAnswerIsComparedWhereTheRuleWantsIt) {
  put(long_text());
  other(RouteClass::kLargeModel, long_text());
  const auto e = edge({}, cascading(0, "agreement"));
  const std::string here = text_of(post(*edge(), about(long_text())));
  const json answer = post(*e, about(long_text()));
  EXPECT_EQ(text_of(answer), here);
  const json& cascade = answer["x_celslm"]["cascade"];
  EXPECT_EQ(cascade["measure"], "agreement");
  EXPECT_GE(cascade["value"].get<double>(), 0.0);
  EXPECT_LE(cascade["value"].get<double>(), 1.0);
}

TEST_F(RoutingEdgeTest, ConfidenceIsPartOfTheAnswerWhereItIsAskedFor) {
  const auto e = edge();
  json body = about("Hello.", {{"confidence", true}});
  body["top_logprobs"] = 1;
  const json answer = post(*e, body);
  const json& confidence = answer["x_celslm"]["confidence"];
  double least = 1;
  for (const json& token : answer["choices"][0]["logprobs"]["content"]) {
    least = std::min(least, std::exp(token["logprob"].get<double>()));
    EXPECT_EQ(token["top_logprobs"].size(), 1U);  // what the measures need beyond it is not shown
  }
  EXPECT_NEAR(confidence["least_probability"].get<double>(), least, 1e-6);
  EXPECT_EQ(confidence["tokens"], 12);
  body.erase("logprobs");
  body.erase("top_logprobs");
  EXPECT_EQ(post(*e, body)["choices"][0]["logprobs"], nullptr);
}

}  // namespace
}  // namespace celslm
