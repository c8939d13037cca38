#include "serve/batch/batch_loop.h"

#include <gmock/gmock.h>

#include <thread>

#include "serve/batch/batch_test_support.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing_support::Answer;
using testing_support::collect;
using testing_support::kForever;
using testing_support::request;
using testing_support::some_tokens;

class BatchLoopTest : public testing_support::BatchFixture {
 protected:
  std::unique_ptr<BatchLoop> loop(const BatchOptions& options = {}) const {
    return std::make_unique<BatchLoop>(engine(), clock_, options, null_log());
  }
  // A request that does not get anywhere until its context is filled.
  GenerationRequest stuck() const {
    auto out = request(some_tokens(10, 1), 5);
    out.context = context_;
    return out;
  }
  static Answer answer_of(Generation& generation) {
    Answer out;
    collect(generation, out, kForever);
    return out;
  }

  const std::shared_ptr<ResidentContext> context_ = empty_context();
};

TEST_F(BatchLoopTest, AnswersRequestsFromManyThreads) {
  const auto l = loop();
  const auto ask = [&](int seed) { return answer_of(**l->submit(request(some_tokens(30, seed), 10))).text; };
  std::vector<std::string> alone;
  for (int i = 0; i < 6; ++i) alone.push_back(ask(i));
  std::vector<std::string> together(alone.size());
  {
    std::vector<std::jthread> users;
    for (int i = 0; i < 6; ++i) users.emplace_back([&, i] { together[static_cast<std::size_t>(i)] = ask(i); });
  }
  EXPECT_EQ(together, alone);
}

TEST_F(BatchLoopTest, GoesOnWhenAContextsLayersCome) {
  const auto l = loop();
  context_->on_change([&] { l->wake(); });
  const auto generation = *l->submit(stuck());
  for (int layer = 0; layer < context_->n_layers(); ++layer) {
    clock_.wait_for_sleepers(1);
    context_->layer_filled(layer, {});
  }
  EXPECT_EQ(answer_of(*generation).usage.cached_tokens, 40);
}

TEST_F(BatchLoopTest, RefusesAPromptOverTheBudget) {
  const auto l = loop({.kv_budget_bytes = bytes_for(50)});
  const auto refused = l->submit(request(some_tokens(500, 1), 5));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.error().message, HasSubstr("--kv-budget"));
}

TEST_F(BatchLoopTest, RefusesMoreThanItsPlacesHold) {
  const auto l = loop({.max_running = 1, .max_queued = 1});
  EXPECT_TRUE(l->submit(stuck()));
  EXPECT_TRUE(l->submit(stuck()));
  EXPECT_EQ(l->submit(stuck()).error().kind, ErrorKind::kOverloaded);
}

TEST_F(BatchLoopTest, ACancelledRequestFreesItsPlaceThoughNothingElseHappens) {
  const auto l = loop({.max_running = 1, .max_queued = 1});
  const auto running = *l->submit(stuck());
  const auto waiting = *l->submit(stuck());
  for (const auto& generation : {waiting, running}) {
    clock_.wait_for_sleepers(1);
    generation->cancel();
    clock_.advance(100ms);
    EXPECT_EQ(answer_of(*generation).reason, FinishReason::kCancelled);
    clock_.wait_for_sleepers(1);  // until the loop has counted it
    EXPECT_TRUE(l->submit(stuck()));
  }
}

TEST_F(BatchLoopTest, LetsRequestsFinishWhenItStops) {
  const auto l = loop();
  const auto generation = *l->submit(request(some_tokens(30, 1), 20));
  l->stop(1h);
  EXPECT_TRUE(answer_of(*generation).reason);
  EXPECT_EQ(l->submit(request(some_tokens(30, 1), 20)).error().kind, ErrorKind::kUnavailable);
}

TEST_F(BatchLoopTest, EndsWhatIsLeftWhenTheGraceIsOver) {
  const auto l = loop();
  const auto generation = *l->submit(stuck());
  std::jthread stopper([&] { l->stop(30s); });
  clock_.wait_for_sleepers(2);
  EXPECT_EQ(l->submit(stuck()).error().kind, ErrorKind::kUnavailable);
  clock_.advance(30s);
  stopper.join();
  EXPECT_EQ(answer_of(*generation).error->kind, ErrorKind::kUnavailable);
}

}  // namespace
}  // namespace celslm
