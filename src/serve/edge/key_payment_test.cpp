// Tokens that a key pays for: all that were computed for its requests, whoever computed them and however the request ended.
#include "net/access/key_meter.h"
#include "serve/edge/edge_test_support.h"
#include "serve/route/node_watch.h"
#include "tests/support/eventually.h"

namespace celslm {
namespace {

using namespace testing_support;

class KeyPaymentTest : public EdgeFixture {
 protected:
  // Of a key that has used up its minute once a request has cost more than nine tokens.
  HttpRequest by_key(const json& body) const {
    return {.path = "/v1/chat/completions", .body = body.dump(), .caller = {.use = *KeyUse::begin(meter_, limits_)}};
  }
  bool has_paid() const { return !KeyUse::begin(meter_, limits_); }
  static json streamed(json body) {
    body["stream"] = true;
    return body;
  }

  const KeyLimits limits_{.tokens_per_minute = 10};
  std::shared_ptr<KeyMeter> meter_ = std::make_shared<KeyMeter>(clock_);
};

TEST_F(KeyPaymentTest, ForACompleteAnswer) {
  const auto e = edge();
  EXPECT_EQ(e->chat_completions(by_key(request("Hello.", "Where?"))).status, 200);
  EXPECT_TRUE(has_paid());
}

TEST_F(KeyPaymentTest, ForAStreamThatItsClientLeft) {
  const auto e = edge();
  json many = streamed(request("Hello.", "Where?"));
  many["max_tokens"] = 1500;
  const HttpRequest request = by_key(many);
  const HttpResponse answer = e->chat_completions(request);
  ASSERT_TRUE(answer.stream) << answer.body;
  int events = 0;
  (void)answer.stream([&](std::string_view) { return ++events < 3; });
  EXPECT_TRUE(eventually([&] { return e->requests_under_way() == 0 && has_paid(); }));
}

TEST_F(KeyPaymentTest, ForWhatANeighbourAnswered) {
  put(long_text());
  EdgeOptions options;
  options.routing = {
      .policy = RequestPolicy::kFleet, .assumed_prefill_tokens_per_s = 1000, .assumed_decode_tokens_per_s = 50};
  const auto neighbour = edge({}, options);
  ask(*neighbour, long_text());
  neighbour->wait_until_loaded();
  LocalServer server("local://neighbour");
  neighbour->add_routes(server);
  const auto watch = std::make_shared<NodeWatch>(std::vector{WatchedNode{.client = std::make_shared<LocalClient>(server)}},
                                                 model_->fingerprint().id(), clock_, WatchOptions(), null_log());
  watch->read_all();
  nodes_ = {watch};
  const auto e = edge({}, options);
  const HttpResponse complete = e->chat_completions(by_key(request(long_text(), "Where?")));
  EXPECT_EQ(json::parse(complete.body)["x_celslm"]["routing"]["answered_by"], "neighbour") << complete.body;
  EXPECT_TRUE(eventually([&] { return has_paid(); }));
  clock_.advance(std::chrono::hours(1));
  watch->read_all();
  const HttpRequest request = by_key(streamed(EdgeFixture::request(long_text(), "Where?")));
  const HttpResponse stream = e->chat_completions(request);
  ASSERT_TRUE(stream.stream) << stream.body;
  std::string text;
  (void)stream.stream([&](std::string_view piece) {
    text += piece;
    return true;
  });
  EXPECT_THAT(text, testing::HasSubstr("\"answered_by\":\"neighbour\""));
  EXPECT_TRUE(eventually([&] { return has_paid(); }));
}

}  // namespace
}  // namespace celslm
