// Models that libllama runs, behind our engine's interface: the same tokens as libllama alone, shared beginnings, states.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>

#include "model/engine/engine.h"
#include "model/engine/prefill.h"
#include "model/llama/llama_context.h"
#include "tests/support/llama_oracle.h"
#include "tests/support/random_mamba.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using namespace testing_support;
using testing::HasSubstr;

constexpr const char* kForeign = "internlm2";  // libllama takes it for what it is: llama's tensors under another name
constexpr int kAnswer = 12;

std::vector<Token> some_tokens(int n, int seed) {
  std::vector<Token> out;
  for (int i = 0; i < n; ++i) out.push_back((i * 37 + seed) % 200 + 1);
  return out;
}

std::vector<Token> joined(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Token best(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

// Both kinds: KV of every token, and a state.
class ForeignModelTest : public testing::TestWithParam<const char*> {
 protected:
  ForeignModelTest() {
    if (GetParam() == std::string("mamba")) {
      write_random_mamba(file_);
    } else {
      write_random_model(file_, {.architecture = GetParam(), .n_layers = 3});
    }
    model_ = *Model::load(file_, {.allow_foreign = true});
    engine_ = new_engine(8);
  }
  std::unique_ptr<Engine> new_engine(int n_sequences) const {
    return *Engine::create(model_, {.n_threads = 1, .foreign = {.n_tokens = 1024, .n_sequences = n_sequences}});
  }
  std::shared_ptr<KvSegment> segment(int first, int capacity = 256) const {
    return *KvSegment::create(model_->config(), KvType::kF16, first, capacity);
  }

  // The greedy answer to a prompt, alone in its batches.
  std::vector<Token> answer(Engine& engine, std::vector<Token> prompt, std::shared_ptr<const KvSegment> context = nullptr) {
    SequenceChunk chunk{.context = context, .own = segment(context ? context->next_position() : 0)};
    std::vector<Token> out;
    while (static_cast<int>(out.size()) < kAnswer) {
      chunk.own_length = chunk.own->length();
      chunk.n_tokens = static_cast<int>(prompt.size());
      const auto logits = engine.forward(prompt, std::span(&chunk, 1));
      if (!logits) ADD_FAILURE() << logits.error().message;
      if (!logits) return out;
      out.push_back(best(*logits));
      prompt = {out.back()};
    }
    return out;
  }
  std::shared_ptr<KvSegment> computed_context(Engine& engine, const std::vector<Token>& tokens) {
    auto out = segment(0, static_cast<int>(tokens.size()));
    auto prefill = ContextPrefill::start(engine, tokens, out);
    while (prefill && !prefill->finished()) EXPECT_TRUE(prefill->advance());
    return out;
  }

  const TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "m.gguf";
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Engine> engine_;
  const std::vector<Token> context_ = some_tokens(70, 5);
  const std::vector<Token> prompt_ = some_tokens(20, 9);
};

INSTANTIATE_TEST_SUITE_P(Kinds, ForeignModelTest, testing::Values(kForeign, "mamba"));

TEST_P(ForeignModelTest, IsRefusedUnlessItIsAllowed) {
  const auto refused = Model::load(file_);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(GetParam()));
}

TEST_P(ForeignModelTest, NamesItsEngineItsArchitectureAndTheLibrary) {
  EXPECT_STREQ(model_->engine_name(), "libllama");
  EXPECT_EQ(model_->fingerprint().architecture, GetParam());
  EXPECT_THAT(model_->fingerprint().rope, HasSubstr("libllama"));
}

TEST_P(ForeignModelTest, ChoosesTheTokensThatLibllamaChooses) {
  LlamaOracle oracle(file_, GGML_TYPE_F16);
  EXPECT_EQ(answer(*engine_, prompt_), oracle.greedy(prompt_, kAnswer));
}

TEST_P(ForeignModelTest, GivesEachOfABatchWhatItGivesItAlone) {
  const std::array prompts{some_tokens(30, 1), some_tokens(7, 2), some_tokens(600, 3)};  // the last in several parts
  std::vector<Token> all;
  std::vector<SequenceChunk> chunks;
  std::vector<Token> alone;
  for (const auto& prompt : prompts) {
    all = joined(all, prompt);
    const auto n_tokens = static_cast<int>(prompt.size());
    chunks.push_back({.own = segment(0, 1000), .n_tokens = n_tokens});
    const SequenceChunk chunk{.own = segment(0, 1000), .n_tokens = n_tokens};
    alone.push_back(best(*new_engine(2)->forward(prompt, std::span(&chunk, 1))));
  }
  const auto logits = engine_->forward(all, chunks);
  ASSERT_TRUE(logits) << logits.error().message;
  const auto n_vocab = static_cast<std::size_t>(model_->config().n_vocab);
  for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(best(logits->subspan(i * n_vocab, n_vocab)), alone[i]);
  EXPECT_EQ(chunks[2].own->length(), 600);
}

TEST_P(ForeignModelTest, UsersWhoShareAContextGetTheAnswersOfPrefillsOfTheirOwn) {
  const auto context = computed_context(*engine_, context_);
  for (const int seed : {9, 10}) {
    const auto question = some_tokens(20, seed);
    EXPECT_EQ(answer(*engine_, question, context), answer(*engine_, joined(context_, question)));
  }
}

TEST_P(ForeignModelTest, ASequenceIsFreeAgainWhenItsSegmentEnds) {
  const auto engine = new_engine(1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(answer(*engine, prompt_).size(), std::size_t{kAnswer});
}

TEST_P(ForeignModelTest, MoreSequencesThanThereAreAreRefused) {
  const auto engine = new_engine(1);
  const auto context = computed_context(*engine, context_);
  const SequenceChunk chunk{.own = segment(0), .n_tokens = 20};
  const auto refused = engine->forward(prompt_, std::span(&chunk, 1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kOverloaded);
}

TEST_P(ForeignModelTest, AConversationGoesOnBehindTheKvOfAnEarlierOne) {
  const SequenceChunk chunk{.own = segment(0), .n_tokens = static_cast<int>(context_.size())};
  ASSERT_TRUE(engine_->forward(context_, std::span(&chunk, 1)));
  const auto next = segment(0);
  next->copy_from(*chunk.own, chunk.own->length());
  ASSERT_EQ(next->length(), static_cast<int>(context_.size()));
  const SequenceChunk more{.own = next, .own_length = next->length(), .n_tokens = static_cast<int>(prompt_.size())};
  const Token chosen = best(*engine_->forward(prompt_, std::span(&more, 1)));
  EXPECT_EQ(chosen, answer(*engine_, joined(context_, prompt_)).front());
}

TEST_P(ForeignModelTest, PartOfAConversationCanBeHadOfKvButNotOfAState) {
  const SequenceChunk chunk{.own = segment(0), .n_tokens = static_cast<int>(context_.size())};
  ASSERT_TRUE(engine_->forward(context_, std::span(&chunk, 1)));
  const auto next = segment(0);
  next->copy_from(*chunk.own, 40);
  EXPECT_EQ(next->length(), GetParam() == std::string(kForeign) ? 40 : 0);
}

TEST_P(ForeignModelTest, BehindPartOfAContextItAnswersAsBehindThatPartAlone) {
  const auto context = computed_context(*engine_, context_);
  const SequenceChunk chunk{
      .context = context, .own = segment(40), .n_tokens = static_cast<int>(prompt_.size()), .context_rows = 40};
  const Token chosen = best(*engine_->forward(prompt_, std::span(&chunk, 1)));
  const std::vector<Token> beginning(context_.begin(), context_.begin() + 40);
  EXPECT_EQ(chosen, answer(*engine_, joined(beginning, prompt_)).front());
}

TEST_P(ForeignModelTest, AnotherEngineGoesOnFromAContextsState) {
  const auto expected = answer(*engine_, prompt_, computed_context(*engine_, context_));
  const auto made = engine_->foreign_state(*computed_context(*engine_, context_));
  ASSERT_TRUE(made) << made.error().message;
  const auto edge = new_engine(4);
  const auto context = segment(0, static_cast<int>(context_.size()));
  context->set_foreign(kv_from_state(*made, context_));
  context->set_length(static_cast<int>(context_.size()));
  EXPECT_EQ(answer(*edge, prompt_, context), expected);
}

TEST_P(ForeignModelTest, AStateThatLibllamaRefusesIsComputedInstead) {
  const auto expected = answer(*engine_, prompt_, computed_context(*engine_, context_));
  Bytes state = *engine_->foreign_state(*computed_context(*engine_, context_));
  state.resize(state.size() / 2);
  const auto context = segment(0, static_cast<int>(context_.size()));
  context->set_foreign(kv_from_state(std::move(state), context_));
  context->set_length(static_cast<int>(context_.size()));
  EXPECT_EQ(answer(*engine_, prompt_, context), expected);
}

TEST_P(ForeignModelTest, ABatchThatFailsInALaterPartLeavesNoRows) {
  if (GetParam() != std::string(kForeign)) return;  // a state takes no more memory for more tokens
  const auto context = *LlamaContext::create(model_->foreign(), {.n_threads = 1, .n_tokens = 1024, .n_sequences = 2});
  const auto decode = [&](LlamaSequence& sequence, const std::vector<Token>& tokens) {
    return context->decode(std::array{LlamaContext::Chunk{.sequence = &sequence, .tokens = tokens, .wants_logits = true}});
  };
  const auto sequence = *context->new_sequence();
  ASSERT_TRUE(decode(*sequence, context_));
  const Status failed = decode(*sequence, some_tokens(1500, 3));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::kOverloaded);
  EXPECT_EQ(sequence->n_tokens(), std::ssize(context_));
  ASSERT_TRUE(decode(*sequence, prompt_));
  EXPECT_EQ(best(context->logits()), answer(*engine_, joined(context_, prompt_)).front());
}

TEST_P(ForeignModelTest, ItsLayersCanNeitherBeReadNorWritten) {
  auto hidden = *engine_->embed(prompt_);
  const SequenceChunk chunk{.own = segment(0), .n_tokens = static_cast<int>(prompt_.size())};
  EXPECT_FALSE(engine_->run_layers(0, 1, std::span(&chunk, 1), hidden, [](int, auto, auto) {}));
  EXPECT_FALSE(engine_->attention_output(0, std::span(&chunk, 1), hidden));
  EXPECT_FALSE(Engine::import_rows(*model_, *chunk.own, 0, 0, 1, {}, {}));
}

}  // namespace
}  // namespace celslm
