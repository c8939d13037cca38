#include "serve/wire/pack_version_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <sstream>

#include "kv/pack/pack.h"

namespace celslm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class PackVersionCheckTest : public testing::Test {
 protected:
  std::string taken() {
    std::string out = lines_.str();
    lines_.str("");
    return out;
  }

  static constexpr std::uint16_t kNewer = kPackVersion + 1;
  std::ostringstream lines_;
  PackVersionCheck check_{
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(lines_))};
};

TEST_F(PackVersionCheckTest, ThisVersionAndOlderOnesCanBeRead) {
  EXPECT_TRUE(check_.check("http://cloud")) << "nothing is known yet";
  for (const std::uint16_t version : {std::uint16_t{1}, kPackVersion}) {
    check_.learned(version, "http://cloud");
    EXPECT_TRUE(check_.check("http://cloud"));
  }
  EXPECT_EQ(taken(), "");
}

TEST_F(PackVersionCheckTest, ANewerOneIsRefusedAndLoggedOnceEachWay) {
  for (int i = 0; i < 3; ++i) check_.learned(kNewer, "http://cloud");
  const Status refused = check_.check("http://cloud");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("http://cloud writes packs of version 3"), HasSubstr("1 to 2")));
  const std::string lines = taken();
  EXPECT_EQ(std::ranges::count(lines, '\n'), 1) << lines;
  EXPECT_THAT(lines, HasSubstr("contexts are computed here"));

  for (int i = 0; i < 3; ++i) check_.learned(kPackVersion, "http://cloud");
  EXPECT_TRUE(check_.check("http://cloud"));
  const std::string back = taken();
  EXPECT_EQ(std::ranges::count(back, '\n'), 1) << back;
}

}  // namespace
}  // namespace celslm
