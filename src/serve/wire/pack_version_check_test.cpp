#include "serve/wire/pack_version_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "kv/pack/pack.h"
#include "tests/support/readable_log.h"

namespace celslm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class PackVersionCheckTest : public testing::Test {
 protected:
  static constexpr std::uint16_t kNewer = kPackVersion + 1;
  testing_support::ReadableLog log_;
  PackVersionCheck check_{log_.log()};
};

TEST_F(PackVersionCheckTest, ThisVersionAndOlderOnesCanBeRead) {
  EXPECT_TRUE(check_.check("http://cloud")) << "nothing is known yet";
  for (const std::uint16_t version : {std::uint16_t{1}, kPackVersion}) {
    check_.learned(version, "http://cloud");
    EXPECT_TRUE(check_.check("http://cloud"));
  }
  EXPECT_EQ(log_.taken(), "");
}

TEST_F(PackVersionCheckTest, ANewerOneIsRefusedAndLoggedOnceEachWay) {
  for (int i = 0; i < 3; ++i) check_.learned(kNewer, "http://cloud");
  const Status refused = check_.check("http://cloud");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("http://cloud writes packs of version 3"), HasSubstr("1 to 2")));
  const std::string lines = log_.taken();
  EXPECT_EQ(std::ranges::count(lines, '\n'), 1) << lines;
  EXPECT_THAT(lines, HasSubstr("contexts are computed here"));

  for (int i = 0; i < 3; ++i) check_.learned(kPackVersion, "http://cloud");
  EXPECT_TRUE(check_.check("http://cloud"));
  const std::string back = log_.taken();
  EXPECT_EQ(std::ranges::count(back, '\n'), 1) << back;
}

}  // namespace
}  // namespace celslm
