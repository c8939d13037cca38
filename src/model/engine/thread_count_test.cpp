#include "model/engine/thread_count.h"

#include <gtest/gtest.h>

namespace celslm {
namespace {

// A machine on which `taken` of `cores` cores are used by others, who are preferred.
struct Machine {
  double cores = 2;
  double taken = 0;

  CpuSpent graph(int threads, double wall_s = 0.01) const {
    const double had = std::min<double>(threads, cores - taken);
    return {.wall_s = wall_s, .cpu_s = wall_s * had, .preemptions = had < threads ? 3 : 0};
  }
};

bool always() {
  return true;
}

void run(ThreadCount& count, const Machine& machine, double seconds) {
  for (double t = 0; t < seconds; t += 0.01) count.add(machine.graph(count.now()));
}

TEST(ThreadCountTest, AloneAllThreadsAreUsed) {
  ThreadCount count(2, always);
  run(count, {}, 10);
  EXPECT_EQ(count.now(), 2);
}

TEST(ThreadCountTest, ACoreThatIsTakenIsLeftWithinTwoWindows) {
  ThreadCount count(2, always);
  run(count, {.taken = 1}, 0.05);
  EXPECT_EQ(count.now(), 1);
}

TEST(ThreadCountTest, AsManyCoresAsAreTakenAreLeft) {
  ThreadCount count(8, always);
  run(count, {.cores = 8, .taken = 3}, 0.05);
  EXPECT_EQ(count.now(), 5);
  run(count, {.cores = 8, .taken = 100}, 1.0);
  EXPECT_EQ(count.now(), 1);
}

TEST(ThreadCountTest, ACoreThatIsFreeAgainIsUsedWithinSeconds) {
  ThreadCount count(2, always);
  run(count, {.taken = 1}, 60);
  run(count, {}, 5);
  EXPECT_EQ(count.now(), 2);
  run(count, {}, 60);
  EXPECT_EQ(count.now(), 2);
}

TEST(ThreadCountTest, WhileItIsTakenItIsTriedRarely) {
  ThreadCount count(2, always);
  run(count, {.taken = 1}, 20);
  int graphs = 0, tries = 0;
  for (double t = 0; t < 40; t += 0.01, ++graphs) {
    tries += count.now() == 2 ? 1 : 0;
    count.add(Machine{.taken = 1}.graph(count.now()));
  }
  EXPECT_GT(tries, 0);
  EXPECT_LT(tries, graphs / 100);
}

TEST(ThreadCountTest, WhileNoCoreIsIdleNoneIsTried) {
  bool idle = false;
  ThreadCount count(2, [&] { return idle; });
  run(count, {.taken = 1}, 0.05);
  for (int i = 0; i < 10000; ++i) {
    ASSERT_EQ(count.now(), 1);
    count.add({.wall_s = 0.01, .cpu_s = 0.01});
  }
  idle = true;
  run(count, {}, 1);
  EXPECT_EQ(count.now(), 2);
}

TEST(ThreadCountTest, ThreadsThatSleepHaveNotLostTheirCores) {
  ThreadCount count(2, always);
  for (int i = 0; i < 1000; ++i) count.add({.wall_s = 0.01, .cpu_s = 0.011, .preemptions = 0});
  EXPECT_EQ(count.now(), 2);
}

TEST(CpuMeterTest, SeesTimePass) {
  const CpuMeter meter;
  volatile double x = 1;
  for (int i = 0; i < 2'000'000; ++i) x = x * 1.0000001;
  EXPECT_GT(meter.spent().wall_s, 0);
  EXPECT_GT(meter.spent().cpu_s, 0);
}

}  // namespace
}  // namespace celslm
