#include "model/architecture.h"

#include <gtest/gtest.h>

namespace celslm {
namespace {

TEST(ArchitectureTest, HasARowForEveryKindInItsPlace) {
  int place = 0;
  for (const ArchitectureTraits& row : all_architectures()) {
    EXPECT_EQ(static_cast<int>(row.architecture), place++) << row.name;
    EXPECT_EQ(&traits_of(row.architecture), &row);
    EXPECT_EQ(find_architecture(row.name), &row);
  }
}

TEST(ArchitectureTest, IsSpelledAsInGguf) {
  EXPECT_STREQ(to_string(Architecture::kLlama), "llama");
  EXPECT_STREQ(to_string(Architecture::kQwen2), "qwen2");
  EXPECT_STREQ(to_string(Architecture::kQwen3), "qwen3");
  EXPECT_STREQ(to_string(Architecture::kQwen35), "qwen35");
  EXPECT_EQ(find_architecture("mamba"), nullptr);
}

}  // namespace
}  // namespace celslm
