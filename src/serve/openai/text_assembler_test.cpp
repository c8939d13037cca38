#include <gtest/gtest.h>

#include "core/utf8.h"
#include "serve/openai/openai.h"

namespace celslm {
namespace {

using Strings = std::vector<std::string>;

struct AssemblerCase {
  const char* name;
  Strings stop;
  Strings pieces;
  Strings sent;  // after each piece, and by flush()
  bool stopped;
};

class TextAssemblerTest : public testing::TestWithParam<AssemblerCase> {};

TEST_P(TextAssemblerTest, SendsWhatIsCertain) {
  const AssemblerCase& c = GetParam();
  TextAssembler assembler(c.stop);
  Strings sent;
  for (const std::string& piece : c.pieces) sent.push_back(assembler.add(piece));
  sent.push_back(assembler.flush());
  EXPECT_EQ(sent, c.sent);
  EXPECT_EQ(assembler.stopped(), c.stopped);
}

TEST_P(TextAssemblerTest, SendsTheSameWhereverTheTextIsCut) {
  const AssemblerCase& c = GetParam();
  std::string whole;
  for (const std::string& piece : c.pieces) whole += piece;
  std::string expected;
  for (const std::string& piece : c.sent) expected += piece;
  for (std::size_t size = 1; size <= whole.size(); ++size) {
    TextAssembler assembler(c.stop);
    std::string sent;
    for (std::size_t at = 0; at < whole.size(); at += size) sent += assembler.add(whole.substr(at, size));
    sent += assembler.flush();
    EXPECT_EQ(sent, expected) << "in pieces of " << size;
    EXPECT_EQ(assembler.stopped(), c.stopped) << "in pieces of " << size;
  }
}

#define BAD "\xEF\xBF\xBD"

INSTANTIATE_TEST_SUITE_P(
    Cases, TextAssemblerTest,
    testing::Values(
        AssemblerCase{"NothingToHoldBack", {}, {"ab", "", "c"}, {"ab", "", "c", ""}, false},
        AssemblerCase{"ACharacterInTwoPieces",
                      {},
                      {"a\xE2\x82",
                       "\xAC"
                       "b"},
                      {"a", "€b", ""},
                      false},
        AssemblerCase{"ACharacterByteByByte", {}, {"\xF0", "\x9F", "\x98", "\x80"}, {"", "", "", "😀", ""}, false},
        AssemblerCase{"ACharacterThatNeverEnds", {}, {"a\xE2\x82"}, {"a", BAD}, false},
        AssemblerCase{"ACharacterCutByAnother", {}, {"\xE2\x82", "z"}, {"", BAD "z", ""}, false},
        AssemblerCase{"BytesThatAreNoText", {}, {"\xFF\x80"}, {BAD BAD, ""}, false},
        AssemblerCase{"AStopWithinAPiece", {"END"}, {"aENDb", "c"}, {"a", "", ""}, true},
        AssemblerCase{"AStopAcrossPieces", {"END"}, {"aE", "N", "Db"}, {"a", "", "", ""}, true},
        AssemblerCase{"AStopAtOnce", {"END"}, {"END"}, {"", ""}, true},
        AssemblerCase{"AStopThatDoesNotCome", {"END"}, {"aEN", "E", "."}, {"a", "EN", "E.", ""}, false},
        AssemblerCase{"AStopHeldBackAtTheEnd", {"END"}, {"aEN"}, {"a", "EN"}, false},
        AssemblerCase{"AStopThatRepeatsItself", {"aab"}, {"aa", "aa", "b"}, {"", "aa", "", ""}, true},
        AssemblerCase{"AStopWithinHeldBackText", {"abcdef", "cd"}, {"xab", "c", "d"}, {"x", "", "ab", ""}, true},
        AssemblerCase{"TheStopThatIsWholeFirst", {"abcd", "bc"}, {"ab", "cd"}, {"", "a", ""}, true},
        AssemblerCase{"OfTwoEndingTogetherTheLonger", {"bc", "abc"}, {"xabc"}, {"x", ""}, true},
        AssemblerCase{"AStopThatBeginsAnother", {"\n\n", "\n"}, {"a\n", "\n"}, {"a", "", ""}, true},
        AssemblerCase{"TheEarlierOfTwoStops", {"two", "one"}, {"one two"}, {"", ""}, true},
        AssemblerCase{"AStopOfManyBytesPerCharacter", {"€!"}, {"a\xE2", "\x82\xAC", "!b"}, {"a", "", "", ""}, true},
        AssemblerCase{"AStopAfterAnUnfinishedCharacter",
                      {"END"},
                      {"a\xE2\x82"
                       "EN",
                       "D"},
                      {"a" BAD, "", ""},
                      true},
        AssemblerCase{"AnEmptyStopIsNone", {""}, {"ab"}, {"ab", ""}, false}),
    [](const auto& test) { return test.param.name; });

TEST(TextAssemblerLimitTest, HoldsBackNoMoreThanTheLongestStop) {
  TextAssembler assembler({std::string(kMaxStopBytes, 'a')});
  std::size_t given = 0;
  std::size_t sent = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string piece = std::string(37, 'a') + "b";
    given += piece.size();
    sent += assembler.add(piece).size();
    EXPECT_LT(given - sent, kMaxStopBytes);
  }
}

}  // namespace
}  // namespace celslm
