#include "net/access/audit_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "net/access/refusal_log.h"
#include "tests/support/manual_clock.h"
#include "tests/support/readable_log.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;
using testing_support::ManualClock;
using testing_support::ReadableLog;
using testing_support::TemporaryFolder;

const Caller kCaller{.address = "10.0.0.7", .key = "alice", .tenant = "acme"};

TEST(AuditLogTest, WritesALineForEachEvent) {
  const TemporaryFolder folder;
  ManualClock clock;
  clock.advance(1500ms);
  const auto audit = AuditLog::open(folder / "audit", "cloud", clock, null_log());
  ASSERT_TRUE(audit) << audit.error().message;
  (*audit)->record({.what = "register", .status = 200, .context = "ab"}, kCaller);
  (*audit)->record({.what = "fetch", .status = 404, .context = "ab", .model = "cd", .codec = "f16"},
                   {.address = "10.0.0.8", .certificate = "edge-1"});
  std::istringstream lines(folder.read("audit"));
  std::string first;
  std::string second;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_EQ(json::parse(first), (json{{"time", "1970-01-01T01:00:01.500Z"},
                                      {"node", "cloud"},
                                      {"what", "register"},
                                      {"status", 200},
                                      {"key", "alice"},
                                      {"tenant", "acme"},
                                      {"address", "10.0.0.7"},
                                      {"context", "ab"}}));
  EXPECT_EQ(json::parse(second), (json{{"time", "1970-01-01T01:00:01.500Z"},
                                       {"node", "cloud"},
                                       {"what", "fetch"},
                                       {"status", 404},
                                       {"certificate", "edge-1"},
                                       {"address", "10.0.0.8"},
                                       {"context", "ab"},
                                       {"model", "cd"},
                                       {"codec", "f16"}}));
}

TEST(AuditLogTest, IsItsOwnersAlone) {
  const TemporaryFolder folder;
  const ManualClock clock;
  ASSERT_TRUE(AuditLog::open(folder / "audit", "cloud", clock, null_log()));
  struct stat info{};
  ASSERT_EQ(::stat((folder / "audit").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  ::chmod((folder / "audit").c_str(), 0644);
  const auto refused = AuditLog::open(folder / "audit", "cloud", clock, null_log());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("chmod 600"));
}

TEST(AuditLogTest, GoesOnInANewFileAfterRotation) {
  const TemporaryFolder folder;
  const ManualClock clock;
  const auto audit = *AuditLog::open(folder / "audit", "edge", clock, null_log());
  audit->record({.what = "register", .status = 200}, kCaller);
  std::filesystem::rename(folder / "audit", folder / "audit.1");
  audit->record({.what = "remove", .status = 204}, kCaller);
  ASSERT_TRUE(audit->reopen());
  audit->record({.what = "fetch", .status = 200}, kCaller);
  EXPECT_THAT(folder.read("audit.1"), testing::AllOf(HasSubstr("register"), HasSubstr("remove")));
  EXPECT_THAT(folder.read("audit"), HasSubstr("fetch"));
}

TEST(AuditLogTest, AFullDiskCostsOneLineOfTheLogAndNoRequest) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP();
  const ManualClock clock;
  const ReadableLog log;
  const auto audit = AuditLog::open("/dev/full", "edge", clock, log.log());
  ASSERT_TRUE(audit) << audit.error().message;
  for (int i = 0; i < 100; ++i) (*audit)->record({.what = "fetch", .status = 200}, kCaller);
  EXPECT_EQ(log.count("the audit log cannot be written"), 1U) << log.text();
}

TEST(AuditLogTest, NoNameForgesALine) {
  const TemporaryFolder folder;
  const ManualClock clock;
  const auto audit = *AuditLog::open(folder / "audit", "edge", clock, null_log());
  audit->record({.what = "fetch", .status = 404, .context = "x\n{\"forged\":1}\x1b[2J\xff"}, kCaller);
  const std::string text = folder.read("audit");
  EXPECT_EQ(std::ranges::count(text, '\n'), 1);
  EXPECT_FALSE(text.contains('\x1b'));
  EXPECT_TRUE(json::accept(text)) << text;
}

TEST(RefusalLogTest, OneLineStandsForAll) {
  const ReadableLog log;
  RefusalLog refusals(log.log());
  const RefusalLog::Time start{1h};
  for (int i = 0; i < 1000; ++i) refusals.refused("10.0.0.7", "a wrong bearer token", start + i * 1ms);
  refusals.refused("10.0.0.8", "no client certificate", start);
  EXPECT_EQ(log.count("\n"), 2U) << log.text();
  refusals.refused("10.0.0.9", "a wrong bearer token", start + 61s);
  EXPECT_EQ(log.count("\n"), 3U);
  EXPECT_THAT(log.text(), HasSubstr("refused 10.0.0.9: a wrong bearer token; 999 more"));
}

}  // namespace
}  // namespace celslm
