#include "cli/context_advice.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace celslm {
namespace {

using testing::ElementsAre;

std::string devices() {
  std::string out;
  for (int i = 0; i < 40; ++i) out += fmt::format("light.room_{} can be turned on and off\n", i);
  return out;
}

TEST(ContextAdviceTest, ReadsARequestAListAndLines) {
  const std::string request = R"({"messages": [{"role": "system", "content": "a\r\nb"}]})";
  const std::string parts = R"({"messages": [{"role": "system", "content": [{"type": "text", "text": "c"}]}]})";
  EXPECT_THAT(*system_messages_in(request), ElementsAre("a\nb"));
  EXPECT_THAT(*system_messages_in("[" + request + "," + parts + "]"), ElementsAre("a\nb", "c"));
  EXPECT_THAT(*system_messages_in(request + "\n\n" + parts + "\n"), ElementsAre("a\nb", "c"));
  EXPECT_THAT(*system_messages_in(R"({"messages": [{"role": "user", "content": "x"}]})"), ElementsAre(""));
  for (const char* bad : {"no JSON", "{}", "3", R"({"messages": 3})"}) EXPECT_FALSE(system_messages_in(bad)) << bad;
}

TEST(ContextAdviceTest, EqualMessagesAreRegisteredAsTheyAre) {
  const auto advice = advise_contexts({devices(), "short", devices()});
  ASSERT_EQ(advice.size(), 1U);
  EXPECT_EQ(advice[0].n_requests, 2U);
  EXPECT_EQ(advice[0].text, devices());
  EXPECT_EQ(advice[0].n_volatile, 0U);
}

TEST(ContextAdviceTest, LinesThatChangeAtTheEndAreInTheirPlace) {
  const auto advice = advise_contexts({devices() + "It is 14:05.", devices() + "It is 14:06."});
  ASSERT_EQ(advice.size(), 1U);
  EXPECT_EQ(advice[0].text, devices());
  EXPECT_EQ(advice[0].leading_bytes, devices().size());
  EXPECT_EQ(advice[0].n_volatile, 1U);
  EXPECT_TRUE(advice[0].moving.empty());
}

TEST(ContextAdviceTest, LinesThatChangeAtTheBeginningHaveToMove) {
  const auto advice = advise_contexts({"It is 14:05.\n" + devices(), "It is 14:06.\n" + devices()});
  ASSERT_EQ(advice.size(), 1U);
  EXPECT_EQ(advice[0].text, devices());
  EXPECT_EQ(advice[0].leading_bytes, 0U);
  ASSERT_EQ(advice[0].moving.size(), 1U);
  EXPECT_EQ(advice[0].moving[0].number, 1U);
  EXPECT_EQ(advice[0].moving[0].example, "It is 14:05.");
  EXPECT_EQ(advice[0].moving[0].shared_bytes_behind, devices().size());
}

TEST(ContextAdviceTest, TextsThatShareNothingAreNoContext) {
  EXPECT_TRUE(advise_contexts({devices(), std::string(1000, 'x'), ""}).empty());
}

}  // namespace
}  // namespace celslm
