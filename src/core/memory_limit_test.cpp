#include "core/memory_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <vector>

#include "core/memory_plan.h"
#include "core/process_memory.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kGigabyte = 1ULL << 30;

class MemoryLimitTest : public testing::Test {
 protected:
  MemoryLimitTest() { write("proc/meminfo", "MemFree:  1 kB\nMemTotal:       16777216 kB\nMemAvailable: 5 kB\n"); }
  ~MemoryLimitTest() override { fs::remove_all(root_); }

  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }

  const fs::path root_ = fs::temp_directory_path() / ("celslm-memory-limit-" + std::to_string(::getpid()));
};

TEST_F(MemoryLimitTest, IsTheMachinesWhereNothingElseLimits) {
  const MemoryLimit limit = memory_limit(root_, {});
  EXPECT_EQ(limit.bytes, 16 * kGigabyte);
  EXPECT_EQ(limit.set_by, "the machine");
}

TEST_F(MemoryLimitTest, IsTheLeastOfAllCgroupsAboveTheProcess) {
  write("proc/self/cgroup", "0::/box/service\n");
  write("sys/fs/cgroup/box/memory.max", "1073741824\n");
  write("sys/fs/cgroup/box/service/memory.max", "max\n");
  const MemoryLimit limit = memory_limit(root_, {});
  EXPECT_EQ(limit.bytes, kGigabyte);
  EXPECT_EQ(limit.set_by, "its cgroup");
  EXPECT_EQ(limit.machine_bytes, 16 * kGigabyte);
}

TEST_F(MemoryLimitTest, AContainerSeesItsOwnCgroupAsTheRoot) {
  write("proc/self/cgroup", "0::/../../not/mounted/here\n");
  write("sys/fs/cgroup/memory.max", "314572800\n");
  EXPECT_EQ(memory_limit(root_, {}).bytes, 314'572'800U);
}

TEST_F(MemoryLimitTest, KnowsTheFirstVersionOfCgroups) {
  write("proc/self/cgroup", "4:memory:/docker/ab\n1:cpu,cpuacct:/\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", "536870912\n");
  EXPECT_EQ(memory_limit(root_, {}).bytes, kGigabyte / 2);
}

TEST_F(MemoryLimitTest, ALimitOfAddressSpaceCounts) {
  const MemoryLimit limit = memory_limit(root_, 2 * kGigabyte);
  EXPECT_EQ(limit.bytes, 2 * kGigabyte);
  EXPECT_EQ(limit.set_by, "ulimit -v");
}

TEST_F(MemoryLimitTest, OfThisProcessIsNoMoreThanTheMachineHas) {
  const MemoryLimit limit = memory_limit();
  EXPECT_GT(limit.bytes, 0U);
  EXPECT_LE(limit.bytes, limit.machine_bytes);
}

TEST_F(MemoryLimitTest, WhatIsWrittenIsResident) {
  constexpr std::size_t kBytes = 64U << 20;
  const std::uint64_t before = resident_memory().anonymous_bytes;
  const std::vector<char> block(kBytes, 'x');
  const std::uint64_t after = resident_memory().anonymous_bytes;
  EXPECT_EQ(block.back(), 'x');  // or the compiler would leave the block out
  EXPECT_GE(after, before + kBytes / 2);
}

TEST(MemoryPlanTest, DefaultsFitABoxOfOneGigabyte) {
  const std::uint64_t limit = default_memory_limit(kGigabyte);
  const std::uint64_t fixed = 500U << 20;  // a model of 0.5B in Q4_K_M
  const MemoryPlan plan = plan_memory(limit, fixed);
  EXPECT_LT(fixed + plan.context_bytes + plan.request_bytes, limit);
  EXPECT_GT(plan.context_bytes, 100U << 20);
  EXPECT_GT(plan.request_bytes, 50U << 20);
}

TEST(MemoryPlanTest, SomethingIsLeftBesideAModelThatFillsTheBox) {
  const MemoryPlan plan = plan_memory(kGigabyte, 2 * kGigabyte);
  EXPECT_EQ(plan.context_bytes, kGigabyte / 16);
  EXPECT_EQ(plan.request_bytes, kGigabyte / 32);
}

TEST(ProcessMemoryTest, CountsWhatTheSystemCounts) {
  MemoryLedger ledger;
  ProcessMemory process(ledger);
  std::vector<char> model(32U << 20, 'm');
  process.model_loaded();
  const auto resident = static_cast<double>(resident_memory().bytes());
  EXPECT_EQ(model.back(), 'm');
  EXPECT_NEAR(static_cast<double>(process.bytes()), resident, resident / 10);
  EXPECT_EQ(process.bytes(), ledger.used_bytes());
}

}  // namespace
}  // namespace celslm
