#include "serve/batch/scheduler.h"

#include <gmock/gmock.h>

#include "serve/batch/batch_test_support.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing_support::Answer;
using testing_support::collect;
using testing_support::joined;
using testing_support::request;
using testing_support::some_tokens;

// Whoever looks at it takes a millisecond.
class TickingClock final : public Clock {
 public:
  TimePoint now() const override {
    clock_.advance(1ms);
    return clock_.now();
  }
  std::chrono::system_clock::time_point wall() const override { return clock_.wall(); }
  void wait(EventCount& events, std::uint64_t seen, TimePoint until) const override { clock_.wait(events, seen, until); }

 private:
  mutable testing_support::ManualClock clock_;
};

// A scheduler without a thread: the test makes its steps.
class Batching {
 public:
  Batching(std::unique_ptr<Engine> engine, const Clock& clock, const BatchOptions& options)
      : engine_(std::move(engine)), clock_(clock), scheduler_(*engine_, clock, options, null_log()) {}

  std::shared_ptr<Generation> add(GenerationRequest wanted) {
    auto sampler = *Sampler::create(engine_->model().text(), wanted.sampler);
    auto generation = std::make_shared<Generation>(std::move(wanted), std::make_shared<PieceQueue>(clock_));
    scheduler_.add(std::make_unique<Sequence>(generation, std::move(sampler), n_added_++, clock_.now()));
    return generation;
  }
  std::shared_ptr<Generation> add(std::vector<Token> prompt, int max_tokens) {
    return add(request(std::move(prompt), max_tokens));
  }
  bool step() {
    scheduler_.admit();
    return scheduler_.step();
  }
  // Steps until this request has ended.
  Answer run(const std::shared_ptr<Generation>& generation) {
    Answer out;
    for (collect(*generation, out, 0s); !out.reason && !out.error; collect(*generation, out, 0s)) {
      if (step()) continue;
      ADD_FAILURE() << "the request has not ended and there is nothing to do";
      break;
    }
    return out;
  }
  Answer run(std::vector<Token> prompt, int max_tokens) { return run(add(std::move(prompt), max_tokens)); }

  Scheduler& scheduler() { return scheduler_; }
  BatchStats stats() const { return scheduler_.stats(); }

 private:
  const std::unique_ptr<Engine> engine_;
  const Clock& clock_;
  Scheduler scheduler_;
  std::uint64_t n_added_ = 0;
};

class SchedulerTest : public testing_support::BatchFixture {
 protected:
  std::unique_ptr<Batching> batching(const BatchOptions& options = {}) const {
    return std::make_unique<Batching>(engine(), clock_, options);
  }
  // The answer to a request that has the engine to itself and finds nothing kept.
  std::string alone(const std::vector<Token>& prompt, int max_tokens) const {
    return batching({.reuse_prefixes = false})->run(prompt, max_tokens).text;
  }
  // A prompt whose answer does not end before so many tokens.
  std::vector<Token> talkative(int n_prompt, int n_answer) const {
    const auto b = batching({.reuse_prefixes = false});
    for (int seed = 0;; ++seed) {
      auto prompt = some_tokens(n_prompt, seed);
      if (b->run(prompt, n_answer).reason == FinishReason::kLength) return prompt;
    }
  }
};

TEST_F(SchedulerTest, AConversationContinuesFromItsKv) {
  const auto b = batching();
  const auto first = some_tokens(100, 1);
  b->run(first, 10);
  const auto second = joined(first, some_tokens(20, 5));
  const Answer answer = b->run(second, 10);
  EXPECT_EQ(answer.usage.cached_tokens, 100);
  EXPECT_EQ(answer.text, alone(second, 10));
}

TEST_F(SchedulerTest, TheSameQuestionAgainComputesOneToken) {
  const auto b = batching();
  const auto prompt = some_tokens(100, 1);
  const std::string text = b->run(prompt, 10).text;
  const Answer again = b->run(prompt, 10);
  EXPECT_EQ(again.usage.cached_tokens, 99);
  EXPECT_EQ(again.text, text);
  EXPECT_EQ(b->stats().prompt_tokens, 101U);
  EXPECT_EQ(b->stats().reused_tokens, 99U);
}

TEST_F(SchedulerTest, CopiesFromARequestThatIsStillRunning) {
  const auto b = batching();
  auto prompt = talkative(200, 100);
  const auto first = b->add(prompt, 100);
  b->step();
  prompt.push_back(7);
  const Answer second = b->run(prompt, 5);
  EXPECT_EQ(b->stats().running, 1) << "the first one is still running";
  EXPECT_EQ(second.usage.cached_tokens, 200);
  EXPECT_EQ(second.text, alone(prompt, 5));
}

TEST_F(SchedulerTest, ABurstComputesItsCommonBeginningOnce) {
  const auto b = batching();
  std::vector<std::shared_ptr<Generation>> all;
  std::vector<std::vector<Token>> prompts;
  for (int i = 0; i < 8; ++i) {
    prompts.push_back(joined(some_tokens(300, 1), some_tokens(5, 60 + i)));
    all.push_back(b->add(prompts.back(), 8));
  }
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(b->run(all[i]).text, alone(prompts[i], 8)) << i;
  EXPECT_LT(b->stats().prompt_tokens, 300U + 8U * 6U);
}

TEST_F(SchedulerTest, NothingIsReusedWhenThatIsOff) {
  const auto b = batching({.reuse_prefixes = false});
  const auto prompt = some_tokens(100, 1);
  b->run(prompt, 5);
  EXPECT_EQ(b->run(prompt, 5).usage.cached_tokens, 0);
}

TEST_F(SchedulerTest, RequestsThatWaitForKvMemoryGetTheSameAnswer) {
  const auto b = batching({.kv_budget_bytes = bytes_for(300)});
  std::vector<std::shared_ptr<Generation>> all;
  for (int i = 0; i < 6; ++i) all.push_back(b->add(some_tokens(120, i), 20));
  bool waited = false;
  for (bool worked = true; worked;) {
    worked = b->step();
    waited |= b->stats().running > 0 && b->stats().queued > 0;
    EXPECT_LE(b->stats().own_kv_bytes + b->stats().kept_kv_bytes, bytes_for(300));
  }
  EXPECT_TRUE(waited);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(b->run(all[static_cast<std::size_t>(i)]).text, alone(some_tokens(120, i), 20)) << i;
}

// The same, where the process's memory is the limit, and others hold some of it.
TEST_F(SchedulerTest, RequestsThatWaitForTheLedgerGetTheSameAnswer) {
  const auto memory = std::make_shared<MemoryLedger>(4 * bytes_for(200));
  const auto others = *memory->take("contexts", bytes_for(200));
  const auto b = batching({.memory = memory});
  std::vector<std::shared_ptr<Generation>> all;
  for (int i = 0; i < 6; ++i) all.push_back(b->add(some_tokens(120, i), 20));
  bool waited = false;
  for (bool worked = true; worked;) {
    worked = b->step();
    waited |= b->stats().running > 0 && b->stats().queued > 0;
    EXPECT_LE(memory->used_bytes(), memory->limit_bytes());
  }
  EXPECT_TRUE(waited);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(b->run(all[static_cast<std::size_t>(i)]).text, alone(some_tokens(120, i), 20)) << i;
}

TEST_F(SchedulerTest, RefusesARequestWhereNothingRunsThatCouldMakeRoom) {
  const auto memory = std::make_shared<MemoryLedger>(bytes_for(500));
  auto others = *memory->take("contexts", bytes_for(450));
  const auto b = batching({.memory = memory});
  const auto generation = b->add(some_tokens(120, 1), 20);
  EXPECT_FALSE(b->step());
  Answer refused;
  collect(*generation, refused, 0s);
  ASSERT_TRUE(refused.error);
  EXPECT_EQ(refused.error->kind, ErrorKind::kOverloaded);
  others.release();
  EXPECT_EQ(b->run(some_tokens(120, 1), 20).text, alone(some_tokens(120, 1), 20));
}

TEST_F(SchedulerTest, KeptPrefixesAreGivenUpForWhoeverNeedsTheMemory) {
  const auto memory = std::make_shared<MemoryLedger>(bytes_for(500));
  const auto b = batching({.memory = memory});
  b->run(some_tokens(120, 1), 20);
  b->step();
  EXPECT_GT(b->stats().kept_kv_bytes, 0U);
  EXPECT_EQ(memory->used_bytes(), b->stats().kept_kv_bytes);
  EXPECT_TRUE(memory->make_room(memory->limit_bytes()));
  EXPECT_EQ(b->stats().kept_kv_bytes, 0U);
}

TEST_F(SchedulerTest, APreemptedRequestGetsTheSameAnswer) {
  const auto b = batching({.kv_budget_bytes = bytes_for(700)});
  std::vector<std::shared_ptr<Generation>> all;
  for (int i = 0; i < 4; ++i) all.push_back(b->add(some_tokens(50, i), 400));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(b->run(all[static_cast<std::size_t>(i)]).text, alone(some_tokens(50, i), 400)) << i;
  EXPECT_GT(b->stats().preempted, 0U);
}

TEST_F(SchedulerTest, AnAnswerAloneEndsWhereTheBudgetEnds) {
  const auto b = batching({.kv_budget_bytes = bytes_for(400)});
  const Answer answer = b->run(talkative(100, 600), 600);
  EXPECT_EQ(answer.reason, FinishReason::kLength);
  EXPECT_LT(answer.usage.completion_tokens, 600);
  EXPECT_EQ(b->stats().finished, 1U);
}

TEST_F(SchedulerTest, ACancelledRequestLeavesTheQueueAtOnce) {
  const auto b = batching({.max_running = 1});
  const auto running = b->add(some_tokens(10, 1), 50);
  const auto waiting = b->add(some_tokens(10, 2), 5);
  b->step();
  EXPECT_EQ(b->stats().queued, 1);
  waiting->cancel();
  b->step();
  EXPECT_EQ(b->stats().queued, 0);
  EXPECT_EQ(b->stats().running, 1);
  EXPECT_EQ(b->stats().cancelled, 1U);
  EXPECT_EQ(b->run(waiting).reason, FinishReason::kCancelled);
}

TEST_F(SchedulerTest, ALongPromptPassesInSharesBetweenOthersTokens) {
  const TickingClock clock;
  Batching b(engine(), clock, {.max_stall = 0ms});  // the least share: 16 tokens a step, once it is measured
  const auto answering = b.add(talkative(10, 200), 200);
  b.step();
  const auto before = b.stats().completion_tokens;
  b.run(some_tokens(480, 2), 1);
  EXPECT_GE(b.stats().completion_tokens - before, 25U);
}

TEST_F(SchedulerTest, APromptPassesTheLayersOfItsContextAsTheyCome) {
  const auto b = batching();
  const auto context = empty_context();
  auto wanted = request(some_tokens(20, 9), 4);
  wanted.context = context;
  const auto generation = b->add(std::move(wanted));
  EXPECT_FALSE(b->step()) << "no layer is there";
  for (int layer = 0; layer < context->n_layers(); ++layer) {
    context->layer_filled(layer, {});
    EXPECT_TRUE(b->step()) << layer;
    EXPECT_EQ(b->stats().prompt_tokens, layer + 1 < context->n_layers() ? 0U : 20U);
  }
  EXPECT_EQ(b->run(generation).usage.cached_tokens, 40);
}

TEST_F(SchedulerTest, FailsEverythingWhenItIsAsked) {
  const auto b = batching({.max_running = 1});
  const auto running = b->add(some_tokens(10, 1), 50);
  const auto waiting = b->add(some_tokens(10, 2), 5);
  b->step();
  b->scheduler().fail_all({ErrorKind::kCancelled, "enough"});
  EXPECT_EQ(b->run(running).error->message, "enough");
  EXPECT_EQ(b->run(waiting).error->message, "enough");
  EXPECT_EQ(b->stats().failed, 2U);
  EXPECT_EQ(b->stats().running + b->stats().queued, 0);
}

}  // namespace
}  // namespace celslm
