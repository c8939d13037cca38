#include "core/lru.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace celslm {
namespace {

TEST(LruTest, FindsWhatWasPutUnderItsKey) {
  Lru<int, std::string> lru;
  EXPECT_EQ(lru.find(1), nullptr);
  EXPECT_FALSE(lru.put(1, "one"));
  EXPECT_FALSE(lru.put(2, "two"));
  EXPECT_EQ(*lru.find(1), "one");
  EXPECT_EQ(*lru.find(2), "two");
  EXPECT_EQ(lru.size(), 2U);
}

TEST(LruTest, GivesBackWhatIsReplacedOrTaken) {
  Lru<int, std::string> lru;
  lru.put(1, "one");
  EXPECT_EQ(lru.put(1, "uno"), "one");
  EXPECT_EQ(lru.size(), 1U);
  EXPECT_EQ(lru.take(1), "uno");
  EXPECT_FALSE(lru.take(1));
  EXPECT_EQ(lru.size(), 0U);
}

TEST(LruTest, EvictsTheLeastRecentlyUsed) {
  Lru<int, std::string> lru;
  for (const auto& [key, value] : {std::pair(1, "one"), {2, "two"}, {3, "three"}, {4, "four"}}) lru.put(key, value);
  lru.find(1);
  lru.put(2, "zwei");
  EXPECT_EQ(lru.evict(), "three");
  EXPECT_EQ(lru.evict(), "four");
  EXPECT_EQ(lru.evict(), "one");
  EXPECT_EQ(lru.evict(), "zwei");
  EXPECT_FALSE(lru.evict());
}

TEST(LruTest, PassesOverWhatIsInUse) {
  Lru<int, std::shared_ptr<int>> lru;
  const auto held = std::make_shared<int>(1);
  lru.put(1, held);
  lru.put(2, std::make_shared<int>(2));
  const auto in_use = [](const std::shared_ptr<int>& value) { return value.use_count() > 1; };
  EXPECT_EQ(*lru.evict(in_use).value(), 2);
  EXPECT_FALSE(lru.evict(in_use));
  EXPECT_EQ(*lru.find(1), held);
}

}  // namespace
}  // namespace celslm
