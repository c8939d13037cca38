#include "align/condense/conversations.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/utf8.h"
#include "model/engine/model.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

using testing_support::TemporaryFolder;
using testing_support::write_random_model;

TEST(ConversationsTest, FollowTheContextAsTheChatTemplateHasIt) {
  TemporaryFolder folder;
  write_random_model(folder / "model.gguf", {});
  const auto model = Model::load(folder / "model.gguf").value();
  const Text& text = model->text();
  const std::vector<StudyTurn> turns{{"where?", "there"}, {"who is it", ""}};
  const auto conversations = conversations_of(text, "a text", turns).value();
  ASSERT_EQ(conversations.size(), 2U);
  for (std::size_t i = 0; i < turns.size(); ++i) {
    auto all = text.context("a text").value();
    all.insert(all.end(), conversations[i].begin(), conversations[i].end());
    EXPECT_EQ(text.detokenize(all, true), "<|im_start|>system\na text<|im_end|>\n<|im_start|>user\n" + turns[i].prompt +
                                              "<|im_end|>\n<|im_start|>assistant\n" + turns[i].answer);
  }
}

std::string joined(const std::vector<StudyTurn>& turns) {
  std::string out;
  for (const StudyTurn& turn : turns) out += turn.prompt;
  return out;
}

TEST(ReadAgainTest, PiecesAreTheTextAndEndWithLinesOrWords) {
  std::string lines;
  while (lines.size() < 3 * kReadAgainBytes) lines += "a line of the text, with several words in it\n";
  std::string words = lines;
  std::ranges::replace(words, '\n', ' ');
  for (const std::string& text : {lines, words}) {
    const auto pieces = read_again(text);
    EXPECT_EQ(joined(pieces), text);
    EXPECT_GE(pieces.size(), 3U);
    for (const StudyTurn& piece : pieces) {
      EXPECT_LE(piece.prompt.size(), kReadAgainBytes);
      EXPECT_EQ(piece.prompt.back(), text.back());
      EXPECT_TRUE(piece.answer.empty());
    }
  }
  EXPECT_EQ(read_again("short").size(), 1U);
  EXPECT_TRUE(read_again("").empty());
}

TEST(ReadAgainTest, NoCharacterIsCut) {
  std::string text = "x";
  while (text.size() < 2 * kReadAgainBytes) text += "\u20ac";
  const auto pieces = read_again(text);
  EXPECT_EQ(joined(pieces), text);
  for (const StudyTurn& piece : pieces) EXPECT_TRUE(is_utf8(piece.prompt));
}

}  // namespace
}  // namespace celslm
