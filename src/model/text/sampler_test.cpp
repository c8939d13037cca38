#include "model/text/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include "model/numeric/logits.h"
#include "tests/support/vocabulary_suite.h"

namespace celslm {
namespace {

using testing::HasSubstr;

class SamplerTest : public testing_support::VocabularySuite {
 protected:
  static Sampler sampler(const SamplerOptions& options) { return Sampler::create(*text_, options).value(); }

  // A new row of logits for each step, the same for the same seed.
  std::vector<float> logits(unsigned seed) const {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0F, 3.0F);
    std::vector<float> out(static_cast<std::size_t>(text_->n_vocab()));
    for (float& x : out) x = normal(random);
    return out;
  }

  std::vector<Token> generate(Sampler& s, int n) const {
    std::vector<Token> out;
    for (int i = 0; i < n; ++i) out.push_back(s.sample(logits(static_cast<unsigned>(i))).token);
    return out;
  }
};

TEST_F(SamplerTest, TemperatureZeroTakesTheLargest) {
  Sampler s = sampler({});
  for (unsigned i = 0; i < 20; ++i) {
    const auto row = logits(i);
    EXPECT_EQ(s.sample(row).token, std::ranges::max_element(row) - row.begin());
  }
}

TEST_F(SamplerTest, TheSameSeedGivesTheSameTokens) {
  for (const std::uint32_t seed : {0U, 7U, 0xFFFFFFFFU}) {
    const SamplerOptions options{.temperature = 1.0F, .top_k = 40, .top_p = 0.95F, .min_p = 0.01F, .seed = seed};
    Sampler a = sampler(options);
    Sampler b = sampler(options);
    EXPECT_EQ(generate(a, 50), generate(b, 50));
  }
  Sampler a = sampler({.temperature = 1.0F, .seed = 1});
  Sampler b = sampler({.temperature = 1.0F, .seed = 2});
  EXPECT_NE(generate(a, 50), generate(b, 50));
}

TEST_F(SamplerTest, TopKKeepsToTheBest) {
  Sampler s = sampler({.temperature = 5.0F, .top_k = 3, .seed = 3});
  for (unsigned i = 0; i < 50; ++i) {
    const auto row = logits(i);
    const Token t = s.sample(row).token;
    EXPECT_LT(std::ranges::count_if(row, [&](float x) { return x > row[static_cast<std::size_t>(t)]; }), 3);
  }
}

TEST_F(SamplerTest, MinPAndTopPDropTheTail) {
  std::vector<float> row(static_cast<std::size_t>(text_->n_vocab()), 0.0F);
  row[5] = 4.0F;
  row[6] = 3.9F;
  for (const SamplerOptions& options : {SamplerOptions{.temperature = 1.0F, .min_p = 0.5F, .seed = 1},
                                        SamplerOptions{.temperature = 1.0F, .top_p = 0.2F, .seed = 1}}) {
    Sampler s = sampler(options);
    for (int i = 0; i < 50; ++i) EXPECT_THAT(s.sample(row).token, testing::AnyOf(5, 6));
  }
}

TEST_F(SamplerTest, SamplesFollowTheDistribution) {
  std::vector<float> row(static_cast<std::size_t>(text_->n_vocab()), -100.0F);
  row[1] = std::log(0.7F);
  row[2] = std::log(0.3F);
  Sampler s = sampler({.temperature = 1.0F, .seed = 9});
  int ones = 0;
  for (int i = 0; i < 2000; ++i) ones += s.sample(row).token == 1 ? 1 : 0;
  EXPECT_NEAR(ones / 2000.0, 0.7, 0.05);
}

TEST_F(SamplerTest, PenaltiesTurnAwayFromRepetition) {
  std::vector<float> row(static_cast<std::size_t>(text_->n_vocab()), 0.0F);
  row[10] = 2.0F;
  row[11] = 1.9F;
  Sampler plain = sampler({});
  Sampler penalized = sampler({.presence_penalty = 1.0F});
  EXPECT_EQ(plain.sample(row).token, 10);
  EXPECT_EQ(plain.sample(row).token, 10);
  EXPECT_EQ(penalized.sample(row).token, 10);
  EXPECT_EQ(penalized.sample(row).token, 11);
}

TEST_F(SamplerTest, LogProbabilitiesAreOfTheUnmodifiedLogits) {
  Sampler s = sampler({.temperature = 0.5F, .top_k = 5, .presence_penalty = 1.5F, .seed = 4});
  for (unsigned i = 0; i < 10; ++i) {
    const auto row = logits(i);
    double sum = 0;
    for (const float x : row) sum += std::exp(static_cast<double>(x));
    const Sampled got = s.sample(row, 4);
    EXPECT_NEAR(got.logprob, row[static_cast<std::size_t>(got.token)] - std::log(sum), 1e-4);
    ASSERT_EQ(got.top.size(), 4U);
    EXPECT_EQ(got.top[0].token, std::ranges::max_element(row) - row.begin());
    for (std::size_t j = 1; j < 4; ++j) EXPECT_LE(got.top[j].logprob, got.top[j - 1].logprob);
  }
}

TEST_F(SamplerTest, RefusesOptionsOutOfRangeByName) {
  const auto refused = [](const SamplerOptions& o) { return Sampler::create(*text_, o).error().message; };
  EXPECT_THAT(refused({.temperature = -0.1F}), HasSubstr("temperature"));
  EXPECT_THAT(refused({.temperature = std::nanf("")}), HasSubstr("temperature"));
  EXPECT_THAT(refused({.top_k = -1}), HasSubstr("top_k"));
  EXPECT_THAT(refused({.top_p = 1.5F}), HasSubstr("top_p"));
  EXPECT_THAT(refused({.min_p = -1.0F}), HasSubstr("min_p"));
  EXPECT_THAT(refused({.repeat_penalty = 0.0F}), HasSubstr("repeat_penalty"));
  EXPECT_THAT(refused({.frequency_penalty = INFINITY}), HasSubstr("frequency_penalty"));
  EXPECT_THAT(refused({.presence_penalty = -INFINITY}), HasSubstr("presence_penalty"));
  EXPECT_THAT(refused({.penalty_last_n = -2}), HasSubstr("penalty_last_n"));
}

TEST(LogitsTest, ReductionsAgreeWithPlainLoopsAtEveryLength) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0F, 10.0F);
  for (std::size_t n = 1; n < 70; ++n) {
    std::vector<float> values(n);
    for (float& x : values) x = normal(random);
    double sum = 0;
    for (const float x : values) sum += std::exp(static_cast<double>(x));
    EXPECT_NEAR(log_sum_exp(values), std::log(sum), 1e-4) << n;
    EXPECT_EQ(argmax(values), static_cast<std::size_t>(std::ranges::max_element(values) - values.begin()));
  }
  EXPECT_EQ(argmax(std::vector{1.0F, 5.0F, 5.0F}), 1U);  // the first of equals, as libllama
  EXPECT_NEAR(log_sum_exp(std::vector{1000.0F, 1000.0F}), 1000.0F + std::log(2.0F), 1e-3);
}

TEST_F(SamplerTest, TinyTemperaturesAreGreedyInsteadOfOverflowing) {
  Sampler greedy = sampler({});
  const std::vector<Token> expected = generate(greedy, 20);
  for (const float temperature : {1e-5F, 1e-37F, 1e-38F, 1e-45F}) {
    Sampler s = sampler({.temperature = temperature, .seed = 3});
    EXPECT_EQ(generate(s, 20), expected) << temperature;
  }
}

TEST_F(SamplerTest, BiasesAreAddedBeforeAllElse) {
  Sampler wanted = sampler({.logit_bias = {{7, 100.0F}}});
  EXPECT_EQ(generate(wanted, 3), (std::vector<Token>{7, 7, 7}));
  Sampler plain = sampler({});
  const Token best = plain.sample(logits(0)).token;
  Sampler without = sampler({.logit_bias = {{best, -100.0F}}});
  EXPECT_NE(without.sample(logits(0)).token, best);
  const auto refused = Sampler::create(*text_, {.logit_bias = {{text_->n_vocab(), 1.0F}}});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("'logit_bias' has the token id"));
}

}  // namespace
}  // namespace celslm
