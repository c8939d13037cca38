#include "serve/context/context_table.h"

#include <gtest/gtest.h>

#include "serve/context/test_support.h"

namespace celslm {
namespace {

using testing_support::make;

class ContextTableTest : public testing::Test {
 protected:
  std::shared_ptr<ResidentContext> acquire(ContextTable& table, const std::string& text) {
    return *table.acquire(
        context_handle(text), [&] { return Result<std::shared_ptr<ResidentContext>>(make(text)); }, &created_);
  }
  const std::uint64_t one_ = make("x")->segment->size_bytes();
  bool created_ = false;
};

TEST_F(ContextTableTest, MakesAContextOnce) {
  ContextTable table(10 * one_);
  const auto first = acquire(table, "a");
  EXPECT_TRUE(created_);
  EXPECT_EQ(acquire(table, "a"), first);
  EXPECT_FALSE(created_);
}

TEST_F(ContextTableTest, EvictsTheLeastRecentlyUsedOverItsBudget) {
  ContextTable table(2 * one_);
  acquire(table, "a");
  acquire(table, "b");
  acquire(table, "a");
  acquire(table, "c");
  EXPECT_EQ(table.size(), 2U);
  acquire(table, "a");
  EXPECT_FALSE(created_);
  acquire(table, "b");
  EXPECT_TRUE(created_);
}

TEST_F(ContextTableTest, EvictsWhereThereAreTooManyOfThem) {
  ContextTable table(10 * one_, 2);
  acquire(table, "a");
  acquire(table, "b");
  acquire(table, "c");
  EXPECT_EQ(table.size(), 2U);
  EXPECT_EQ(table.find(context_handle("a")), nullptr);
}

TEST_F(ContextTableTest, KeepsContextsInUseEvenOverItsBudget) {
  ContextTable table(one_);
  const auto a = acquire(table, "a");
  const auto b = acquire(table, "b");
  EXPECT_EQ(table.size(), 2U);
  EXPECT_EQ(acquire(table, "a"), a);
}

TEST_F(ContextTableTest, KeepsToItsBudgetAgainOnceAContextIsNoLongerInUse) {
  ContextTable table(one_);
  auto a = acquire(table, "a");
  auto b = acquire(table, "b");
  a.reset();
  acquire(table, "b");
  EXPECT_EQ(table.size(), 1U);
  EXPECT_EQ(table.find(context_handle("a")), nullptr);
}

TEST_F(ContextTableTest, GivesUpWhatNobodyUsesTheLeastRecentlyUsedFirst) {
  ContextTable table(10 * one_);
  const auto held = acquire(table, "held");
  acquire(table, "b");
  acquire(table, "c");
  table.free(1);
  EXPECT_EQ(table.find(context_handle("b")), nullptr);
  EXPECT_NE(table.find(context_handle("c")), nullptr);
  table.free(10 * one_);
  EXPECT_EQ(table.size(), 1U);
  EXPECT_EQ(table.find(context_handle("held")), held);
}

TEST_F(ContextTableTest, AContextsMemoryIsReturnedWithIt) {
  MemoryLedger ledger(2 * one_);
  ContextTable table(10 * one_);
  acquire(table, "a")->hold(*ledger.take("contexts", one_));
  EXPECT_EQ(ledger.used_bytes(), one_);
  table.free(one_);
  EXPECT_EQ(ledger.used_bytes(), 0U);
}

TEST_F(ContextTableTest, PassesOnWhyAContextCannotBeMade) {
  ContextTable table(one_);
  const auto refused = table.acquire(
      context_handle("a"), [] { return Result<std::shared_ptr<ResidentContext>>(fail(ErrorKind::kInvalid, "too long")); },
      &created_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "too long");
  EXPECT_EQ(table.size(), 0U);
}

}  // namespace
}  // namespace celslm
