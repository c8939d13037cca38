#include "core/memory_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

namespace celslm {
namespace {

std::uint64_t bytes_of(const MemoryLedger& ledger, std::string_view account) {
  for (const auto& each : ledger.accounts()) {
    if (each.name == account) return each.bytes;
  }
  return 0;
}

TEST(MemoryLedgerTest, WhatIsTakenIsInItsAccountUntilTheLeaseEnds) {
  MemoryLedger ledger(100);
  {
    const auto contexts = ledger.take("contexts", 60);
    ASSERT_TRUE(contexts);
    const auto more = ledger.take("contexts", 10);
    EXPECT_EQ(bytes_of(ledger, "contexts"), 70U);
    EXPECT_EQ(ledger.available_bytes(), 30U);
  }
  EXPECT_EQ(ledger.used_bytes(), 0U);
  EXPECT_EQ(ledger.accounts().at(0).most_bytes, 70U);
}

TEST(MemoryLedgerTest, RefusesWhatWouldPassTheLimit) {
  MemoryLedger ledger(100);
  const auto first = ledger.take("a", 60);
  const auto second = ledger.take("b", 41);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kOverloaded);
  EXPECT_THAT(second.error().message, testing::HasSubstr("no memory for b"));
  EXPECT_EQ(ledger.used_bytes(), 60U);
  EXPECT_EQ(ledger.refused(), 1U);
  EXPECT_TRUE(ledger.take("b", 40));
}

TEST(MemoryLedgerTest, ALeaseGrowsAndShrinks) {
  MemoryLedger ledger(100);
  auto lease = *ledger.take("a", 10);
  EXPECT_TRUE(lease.resize(100));
  EXPECT_FALSE(lease.resize(101));
  EXPECT_EQ(lease.bytes(), 100U);
  EXPECT_TRUE(lease.resize(30));
  EXPECT_EQ(ledger.available_bytes(), 70U);
}

TEST(MemoryLedgerTest, WhatIsThereAlreadyMayPassTheLimitAndIsMissingToOthers) {
  MemoryLedger ledger(100);
  auto base = ledger.note("base", 150);
  EXPECT_EQ(ledger.available_bytes(), 0U);
  EXPECT_FALSE(ledger.take("a", 1));
  base.resize_over_limit(90);
  EXPECT_TRUE(ledger.take("a", 10));
}

TEST(MemoryLedgerTest, AMovedLeaseIsReturnedOnce) {
  MemoryLedger ledger(100);
  auto first = *ledger.take("a", 40);
  MemoryLease second = std::move(first);
  EXPECT_EQ(ledger.used_bytes(), 40U);
  second = *ledger.take("b", 5);
  EXPECT_EQ(ledger.used_bytes(), 5U);
  second.release();
  second.release();
  EXPECT_EQ(ledger.used_bytes(), 0U);
}

TEST(MemoryLedgerTest, ALeaseMayOutliveItsLedger) {
  MemoryLease lease;
  EXPECT_FALSE(lease.resize(1));
  {
    MemoryLedger ledger(100);
    lease = *ledger.take("a", 40);
  }
  EXPECT_TRUE(lease.resize(50));
}

TEST(MemoryLedgerTest, RoomIsMadeInTheOrderOfRanksAndNoFurtherThanNeeded) {
  MemoryLedger ledger(100);
  auto prefixes = *ledger.take("prefixes", 30);
  auto contexts = *ledger.take("contexts", 60);
  const auto second = ledger.add_reclaimer(2, [&](std::uint64_t) { contexts.release(); });
  auto first = ledger.add_reclaimer(1, [&](std::uint64_t) { prefixes.release(); });
  EXPECT_TRUE(ledger.make_room(40));
  EXPECT_EQ(bytes_of(ledger, "prefixes"), 0U);
  EXPECT_EQ(bytes_of(ledger, "contexts"), 60U);
  EXPECT_TRUE(ledger.make_room(100));
  EXPECT_EQ(ledger.used_bytes(), 0U);
  EXPECT_FALSE(ledger.make_room(101));
}

TEST(MemoryLedgerTest, AReclaimerThatHasLeftIsNotAsked) {
  MemoryLedger ledger(10);
  int asked = 0;
  auto registration = ledger.add_reclaimer(1, [&](std::uint64_t bytes) {
    EXPECT_EQ(bytes, 5U);
    ++asked;
  });
  EXPECT_FALSE(ledger.make_room(15));
  registration.reset();
  EXPECT_FALSE(ledger.make_room(15));
  EXPECT_EQ(asked, 1);
}

TEST(MemoryLedgerTest, ThreadsNeverHoldMoreThanTheLimitTogether) {
  MemoryLedger ledger(1000);
  std::atomic<std::uint64_t> held{0};
  std::atomic<bool> passed{false};
  std::vector<std::jthread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 2000; ++i) {
        const std::uint64_t wanted = (i * 37 + t * 101) % 600;
        const auto lease = ledger.take("a", wanted);
        if (!lease) continue;
        if (held.fetch_add(wanted) + wanted > 1000) passed = true;
        held.fetch_sub(wanted);
      }
    });
  }
  threads.clear();
  EXPECT_FALSE(passed);
  EXPECT_EQ(ledger.used_bytes(), 0U);
}

}  // namespace
}  // namespace celslm
