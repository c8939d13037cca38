#include "core/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace celslm {

std::size_t page_bytes() {
  return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

void release_complete_pages(std::span<std::byte> memory) {
  const std::uintptr_t page = page_bytes();
  const auto first = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::uintptr_t begin = (first + page - 1) / page * page;
  const std::uintptr_t end = (first + memory.size()) / page * page;  // a longer range would be rounded up to complete pages
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace celslm
