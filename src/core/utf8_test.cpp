#include "core/utf8.h"

#include <gtest/gtest.h>

namespace celslm {
namespace {

using namespace std::string_literals;

struct Utf8Case {
  const char* name;
  std::string text;
  std::string repaired;
  std::size_t tail;
};

class Utf8Test : public testing::TestWithParam<Utf8Case> {};

TEST_P(Utf8Test, RepairsAndHoldsBack) {
  const Utf8Case& c = GetParam();
  EXPECT_EQ(repaired_utf8(c.text), c.repaired);
  EXPECT_EQ(is_utf8(c.text), c.text == c.repaired);
  EXPECT_EQ(incomplete_utf8_tail(c.text), c.tail);
  EXPECT_TRUE(is_utf8(c.repaired));
}

#define BAD "\xEF\xBF\xBD"

INSTANTIATE_TEST_SUITE_P(
    Cases, Utf8Test,
    testing::Values(
        Utf8Case{"Empty", "", "", 0}, Utf8Case{"Ascii", "abc", "abc", 0}, Utf8Case{"Zero", "a\0b"s, "a\0b"s, 0},
        Utf8Case{"TwoBytes", "é", "é", 0}, Utf8Case{"ThreeBytes", "€", "€", 0}, Utf8Case{"FourBytes", "😀", "😀", 0},
        Utf8Case{"LastCodePoint", "\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF", 0}, Utf8Case{"OneOfTwo", "a\xC3", "a" BAD, 1},
        Utf8Case{"OneOfThree", "a\xE2", "a" BAD, 1}, Utf8Case{"TwoOfThree", "a\xE2\x82", "a" BAD, 2},
        Utf8Case{"ThreeOfFour", "a\xF0\x9F\x98", "a" BAD, 3}, Utf8Case{"LoneContinuation", "a\x80z", "a" BAD "z", 0},
        Utf8Case{"ContinuationAtTheEnd", "a\x80", "a" BAD, 0}, Utf8Case{"Overlong", "\xC0\xAF", BAD BAD, 0},
        Utf8Case{"OverlongThree", "\xE0\x80\xAF", BAD BAD BAD, 0}, Utf8Case{"Surrogate", "\xED\xA0\x80", BAD BAD BAD, 0},
        Utf8Case{"OverTheLastCodePoint", "\xF4\x90\x80\x80", BAD BAD BAD BAD, 0},
        Utf8Case{"CutInTheMiddle", "\xE2\x82z", BAD "z", 0}, Utf8Case{"NeverALead", "\xFF\xFE", BAD BAD, 0},
        Utf8Case{"UnicodesOwnExample", "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
                 "a" BAD BAD BAD "b" BAD "c" BAD BAD "d", 0}),
    [](const auto& test) { return test.param.name; });

TEST(Utf8LengthTest, CountsACharacterCutIntoPiecesOnce) {
  EXPECT_EQ(utf8_length("aé€😀"), 4U);
  EXPECT_EQ(utf8_length("\xF0\x9F") + utf8_length("\x98") + utf8_length("\x80"), 1U);
}

}  // namespace
}  // namespace celslm
