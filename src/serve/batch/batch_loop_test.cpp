#include "serve/batch/batch_loop.h"

#include <gmock/gmock.h>

#include <thread>

#include "tests/support/random_model.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing_support::TemporaryFolder;

std::vector<Token> some_tokens(int n, int seed) {
  std::vector<Token> out;
  for (int i = 0; i < n; ++i) out.push_back((i * 37 + seed) % 200 + 1);
  return out;
}

struct Answer {
  std::string text;
  Usage usage;
  FinishReason reason = FinishReason::kStop;
};

Answer rest_of(Generation& generation, std::string text = {}) {
  for (;;) {
    auto piece = generation.take(10s);
    if (!piece || piece->error) {
      ADD_FAILURE() << (piece ? piece->error->message : "no answer");
      return {};
    }
    text += piece->text;
    if (piece->finish) return {.text = text, .usage = piece->usage, .reason = *piece->finish};
  }
}

class BatchLoopTest : public testing::Test {
 protected:
  BatchLoopTest() {
    testing_support::write_random_model(folder_ / "m.gguf", {.n_layers = 3, .n_ctx = 2048});
    model_ = *Model::load(folder_ / "m.gguf");
  }

  std::unique_ptr<BatchLoop> loop(const BatchOptions& options = {}) const {
    return std::make_unique<BatchLoop>(*Engine::create(model_, {.n_threads = 1}), clock_, options, null_log());
  }
  static GenerationRequest request(std::vector<Token> prompt, int max_tokens) {
    return {.prompt = std::move(prompt), .max_tokens = max_tokens, .sampler = {.temperature = 0}};
  }
  static std::shared_ptr<Generation> submit(BatchLoop& loop, std::vector<Token> prompt, int max_tokens) {
    auto generation = loop.submit(request(std::move(prompt), max_tokens));
    EXPECT_TRUE(generation) << generation.error().message;
    return *generation;
  }
  // What a request says when nobody else is there and nothing is kept.
  std::string alone(const std::vector<Token>& prompt, int max_tokens) const {
    const auto l = loop({.reuse_prefixes = false});
    return rest_of(*submit(*l, prompt, max_tokens)).text;
  }
  // A prompt whose answer does not end by itself before so many tokens.
  std::vector<Token> talkative(int n_prompt, int n_answer) const {
    const auto l = loop({.reuse_prefixes = false});
    for (int seed = 0;; ++seed) {
      auto prompt = some_tokens(n_prompt, seed);
      if (rest_of(*submit(*l, prompt, n_answer)).reason == FinishReason::kLength) return prompt;
    }
  }
  std::uint64_t bytes_for(int n_tokens) const { return KvSegment::resident_bytes(model_->config(), KvType::kF16, n_tokens); }
  template <typename F>
  static void wait_for(F condition) {
    while (!condition()) std::this_thread::yield();
  }

  const SystemClock clock_;
  const TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
};

TEST_F(BatchLoopTest, AConversationContinuesFromItsKv) {
  const auto l = loop();
  const auto first = some_tokens(100, 1);
  rest_of(*submit(*l, first, 10));
  auto second = first;
  for (const Token t : some_tokens(20, 5)) second.push_back(t);
  const Answer answer = rest_of(*submit(*l, second, 10));
  EXPECT_EQ(answer.usage.cached_tokens, 100);
  EXPECT_EQ(answer.text, alone(second, 10));
}

TEST_F(BatchLoopTest, TheSameQuestionAgainComputesOneToken) {
  const auto l = loop();
  const auto prompt = some_tokens(100, 1);
  const std::string text = rest_of(*submit(*l, prompt, 10)).text;
  const Answer again = rest_of(*submit(*l, prompt, 10));
  EXPECT_EQ(again.usage.cached_tokens, 99);
  EXPECT_EQ(again.text, text);
}

TEST_F(BatchLoopTest, CopiesFromARequestThatIsStillRunning) {
  const auto l = loop();
  auto prompt = talkative(200, 1000);
  const auto first = submit(*l, prompt, 1500);
  auto piece = first->take(10s);
  prompt.push_back(7);
  const Answer second = rest_of(*submit(*l, prompt, 5));
  EXPECT_EQ(second.usage.cached_tokens, 200);
  EXPECT_EQ(second.text, alone(prompt, 5));
  first->cancel();
}

TEST_F(BatchLoopTest, ABurstComputesItsCommonBeginningOnce) {
  const auto l = loop();
  std::vector<std::shared_ptr<Generation>> all;
  std::vector<std::vector<Token>> prompts;
  for (int i = 0; i < 8; ++i) {
    prompts.push_back(some_tokens(300, 1));
    for (const Token t : some_tokens(5, 60 + i)) prompts.back().push_back(t);
    all.push_back(submit(*l, prompts.back(), 8));
  }
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(rest_of(*all[i]).text, alone(prompts[i], 8)) << i;
  EXPECT_LT(l->stats().prompt_tokens, 300U + 8U * 6U);
}

TEST_F(BatchLoopTest, NothingIsReusedWhenThatIsOff) {
  const auto l = loop({.reuse_prefixes = false});
  const auto prompt = some_tokens(100, 1);
  rest_of(*submit(*l, prompt, 5));
  EXPECT_EQ(rest_of(*submit(*l, prompt, 5)).usage.cached_tokens, 0);
}

TEST_F(BatchLoopTest, RequestsWaitForKvMemoryAndSayTheSame) {
  const auto l = loop({.kv_budget_bytes = bytes_for(300)});
  std::vector<std::shared_ptr<Generation>> all;
  for (int i = 0; i < 6; ++i) all.push_back(submit(*l, some_tokens(120, i), 20));
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(rest_of(*all[static_cast<std::size_t>(i)]).text, alone(some_tokens(120, i), 20)) << i;
    EXPECT_LE(l->stats().own_kv_bytes + l->stats().kept_kv_bytes, bytes_for(300));
  }
}

TEST_F(BatchLoopTest, WhoGivesItsKvBackSaysTheSame) {
  const auto l = loop({.kv_budget_bytes = bytes_for(700)});
  std::vector<std::shared_ptr<Generation>> all;
  for (int i = 0; i < 4; ++i) all.push_back(submit(*l, some_tokens(50, i), 400));
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(rest_of(*all[static_cast<std::size_t>(i)]).text, alone(some_tokens(50, i), 400)) << i;
  EXPECT_GT(l->stats().preempted, 0U);
}

TEST_F(BatchLoopTest, AnAnswerAloneEndsWhereTheBudgetEnds) {
  const auto l = loop({.kv_budget_bytes = bytes_for(400)});
  const Answer answer = rest_of(*submit(*l, talkative(100, 1000), 1000));
  EXPECT_EQ(answer.reason, FinishReason::kLength);
  EXPECT_LT(answer.usage.completion_tokens, 1000);
}

TEST_F(BatchLoopTest, RefusesAPromptOverTheBudget) {
  const auto l = loop({.kv_budget_bytes = bytes_for(50)});
  const auto refused = l->submit(request(some_tokens(500, 1), 5));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.error().message, HasSubstr("--kv-budget"));
}

TEST_F(BatchLoopTest, ACancelledRequestLeavesTheQueueAtOnce) {
  const auto l = loop({.max_running = 1, .max_queued = 1});
  const auto running = submit(*l, talkative(10, 1500), 2000);
  wait_for([&] { return l->stats().running == 1; });
  const auto waiting = submit(*l, some_tokens(10, 2), 5);
  waiting->cancel();
  wait_for([&] { return l->stats().queued == 0; });
  EXPECT_EQ(l->stats().running, 1);
  EXPECT_TRUE(l->submit(request(some_tokens(10, 3), 5)));
  running->cancel();
}

TEST_F(BatchLoopTest, ALongPromptPassesInSharesBetweenOthersTokens) {
  const auto l = loop({.max_stall = 0ms});  // the least share: 16 tokens a step
  const auto answering = submit(*l, talkative(10, 1000), 1500);
  wait_for([&] { return l->stats().completion_tokens > 0; });
  const auto before = l->stats().completion_tokens;
  const auto prompt = submit(*l, some_tokens(480, 2), 1);
  rest_of(*prompt);
  EXPECT_GE(l->stats().completion_tokens - before, 25U);
  answering->cancel();
}

}  // namespace
}  // namespace celslm
