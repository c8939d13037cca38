#include "core/pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>

namespace celslm {
namespace {

TEST(PagesTest, OnlyCompletePagesAreReleasedWhereverARangeBegins) {
  const std::size_t page = page_bytes();
  const std::size_t size = 8 * page;
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(data, MAP_FAILED);
  const std::span memory(static_cast<std::byte*>(data), size);
  for (const std::size_t begin : {std::size_t{0}, std::size_t{64}, std::size_t{4096}, page, page + 4096, 2 * page - 1}) {
    for (const std::size_t length : {std::size_t{0}, page - 1, page, std::size_t{3 * 4096}, 3 * page, 3 * page + 4096}) {
      std::ranges::fill(memory, std::byte{1});
      release_complete_pages(memory.subspan(begin, length));
      const std::size_t first = (begin + page - 1) / page * page;
      const std::size_t last = std::max(first, (begin + length) / page * page);
      for (std::size_t i = 0; i < size; i += 64) {
        ASSERT_EQ(memory[i], std::byte{i < first || i >= last}) << i << " of " << begin << " + " << length;
      }
    }
  }
  ::munmap(data, size);
}

}  // namespace
}  // namespace celslm
