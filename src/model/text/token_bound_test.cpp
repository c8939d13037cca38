#include "model/text/token_bound.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "model/text/text.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

constexpr std::size_t kAll = 1'000'000'000;

TEST(TokenBoundTest, IsTheShortestWayToCutTheText) {
  const TokenBound bound({"a", "b", "ab", "aba", "bab", ""});
  EXPECT_EQ(bound.at_least("", kAll), 0U);
  EXPECT_EQ(bound.at_least("ab", kAll), 1U);
  EXPECT_EQ(bound.at_least("abab", kAll), 2U);
  EXPECT_EQ(bound.at_least("ababab", kAll), 2U) << "aba|bab, where the longest first would be aba|ba|b";
}

TEST(TokenBoundTest, CharactersWithoutATokenCountAsOne) {
  const TokenBound bound({"a", "\xE2"});
  EXPECT_EQ(bound.at_least("a\xE2\x82\xAC"
                           "a",
                           kAll),
            3U);
  EXPECT_EQ(TokenBound({}).at_least("xyz", kAll), 3U);
}

TEST(TokenBoundTest, StopsOnceItIsEnough) {
  const TokenBound bound({"a", "aaaa"});
  EXPECT_EQ(bound.at_least(std::string(400, 'a'), kAll), 100U);
  EXPECT_EQ(bound.at_least(std::string(400, 'a'), 50), 51U);
  EXPECT_EQ(bound.at_least(std::string(400, 'a'), 100), 100U);
  EXPECT_EQ(bound.at_least(std::string(50'000'000, 'a'), 10), 11U);
}

TEST(TokenBoundTest, NoTokenizerHasFewerTokens) {
  const testing_support::TemporaryFolder folder;
  testing_support::write_random_model(folder / "m.gguf", {});
  const auto text = *Text::load(folder / "m.gguf");
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string words;
    for (int i = 0; i < 40; ++i)
      words += text->piece(static_cast<Token>(random() % static_cast<unsigned>(text->n_vocab())), true);
    EXPECT_LE(at_least_tokens(*text, words, kAll), text->tokenize(words, false, false).size()) << words;
    EXPECT_LE(at_least_tokens(*text, words, kAll), text->tokenize(words, false, true).size()) << words;
  }
}

}  // namespace
}  // namespace celslm
