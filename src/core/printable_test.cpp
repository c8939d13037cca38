#include "core/printable.h"

#include <gtest/gtest.h>

#include "core/utf8.h"

namespace celslm {
namespace {

TEST(Printable, TextThatPeopleWriteStaysAsItIs) {
  for (const char* text : {"", "the model 'a' is not hosted here", "größer, 日本語, 🙂, C:\\path", "\xEF\xBF\xBD"})
    EXPECT_EQ(printable(text), text);
}

TEST(Printable, WhatSteersATerminalIsEscaped) {
  EXPECT_EQ(printable("\x1b[2J\x1b]0;title\a"), "\\x1b[2J\\x1b]0;title\\x07");
  EXPECT_EQ(printable("a\bb\x7f"
                      "c"),
            "a\\x08b\\x7fc");
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m"),
            "\\x9b31m");  // C1's own "ESC ["
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
}

TEST(Printable, NoLineCanBeForged) {
  EXPECT_EQ(printable("no\n2026-01-01 edge info: all is well\r\n"), "no\\n2026-01-01 edge info: all is well\\r\\n");
  EXPECT_EQ(printable("a\xE2\x80\xA8"
                      "b\xE2\x80\xA9"
                      "c\xC2\x85"),
            "a\\u{2028}b\\u{2029}c\\x85");
}

TEST(Printable, WhatTurnsOrHidesTextIsEscaped) {
  EXPECT_EQ(printable("a\xE2\x80\xAE"
                      "b\xE2\x81\xA6"
                      "c\xE2\x80\x8B\xEF\xBB\xBF"),
            "a\\u{202e}b\\u{2066}c\\u{200b}\\u{feff}");
  EXPECT_EQ(printable("\xF3\xA0\x81\x81"), "\\u{e0041}");  // a tag
}

TEST(Printable, WhatIsNoUtf8IsReplaced) {
  EXPECT_EQ(printable("a\xFFz"), "a\xEF\xBF\xBDz");
}

TEST(Printable, WhatIsTooLongIsCutBetweenCharacters) {
  EXPECT_EQ(printable(std::string(200, 'x')), std::string(200, 'x'));
  EXPECT_EQ(printable(std::string(900'000, 'x')), std::string(197, 'x') + "…");
  EXPECT_EQ(printable("ääää", 8), "ääää");
  EXPECT_EQ(printable("äääää", 8), "ää…");
  EXPECT_EQ(printable("\x1b\x1b\x1b", 8), "\\x1b…");
}

TEST(Printable, IsWithinItsLimitPrintableAndStableForAnyBytes) {
  std::uint32_t state = 1;
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < round % 60; ++i) text += static_cast<char>((state = state * 1664525 + 1013904223) >> 24U);
    const std::size_t limit = 3 + static_cast<std::size_t>(round) % 40;
    const std::string shown = printable(text, limit);
    EXPECT_LE(shown.size(), limit);
    EXPECT_TRUE(is_utf8(shown));
    EXPECT_EQ(printable(shown, limit), shown);
  }
}

}  // namespace
}  // namespace celslm
