#include "model/text/control_words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace celslm {
namespace {

// "a [7] b": texts as they are, tokens in brackets.
std::string shown(const ControlWords& words, std::string_view text) {
  std::string out;
  for (const TextPart& part : words.split(text)) {
    out +=
        part.token ? "[" + std::to_string(*part.token) + "]" : std::string(text.substr(part.begin, part.end - part.begin));
  }
  return out;
}

TEST(ControlWordsTest, TheLongestWordsAreTakenFirstAnywhereInTheText) {
  const ControlWords words({{.text = "<s>", .token = 1}, {.text = "<s><t>", .token = 2}, {.text = "t><s><", .token = 3}});
  EXPECT_EQ(shown(words, "a<s>b<s><s>"), "a[1]b[1][1]");
  EXPECT_EQ(shown(words, "<s><t><s><t>"), "[2][2]");
  EXPECT_EQ(shown(words, "<t><s><t>"), "<t>[2]");
  EXPECT_EQ(shown(words, "<t><s><u>"), "<[3]u>");
  EXPECT_EQ(shown(words, ""), "");
  EXPECT_EQ(shown(ControlWords({}), "<s>"), "<s>");
}

TEST(ControlWordsTest, SomeWordsSwallowTheBlanksBesideThem) {
  const ControlWords words(
      {{.text = "<m>", .token = 1, .strips_left = true}, {.text = "<n>", .token = 2, .strips_right = true}});
  EXPECT_EQ(shown(words, "a \n<m> b"), "a[1] b");
  EXPECT_EQ(shown(words, "a <n> \t b"), "a [2]b");
  EXPECT_EQ(shown(words, " <m><n> "), "[1][2]");
}

TEST(ControlWordsTest, ALiteralThatNoWordBeginsOrEndsInIsHarmless) {
  const ControlWords words({{.text = "<|end|>", .token = 1}, {.text = "</s>", .token = 2}});
  for (const char* harmless : {"</think>", "<think>", "end", "|", "/s"})
    EXPECT_FALSE(words.may_take_part(harmless)) << harmless;
  for (const char* part : {"<", ">", "a<", "|>b", "x<|en", "d|>", "a</s>b", "<|end|>"})
    EXPECT_TRUE(words.may_take_part(part)) << part;
  EXPECT_TRUE(words.begins_or_ends_with('<'));
  EXPECT_FALSE(words.begins_or_ends_with('|'));

  const ControlWords with_blanks({{.text = "<|sep|>\n\n", .token = 1}});
  EXPECT_FALSE(with_blanks.begins_or_ends_with('\n'));
  EXPECT_TRUE(with_blanks.begins_or_ends_with('>'));
  EXPECT_TRUE(with_blanks.may_take_part("|sep|>x"));
  EXPECT_TRUE(with_blanks.may_take_part("a<|sep|>b"));
}

}  // namespace
}  // namespace celslm
