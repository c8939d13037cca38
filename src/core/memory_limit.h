// How much memory this process may have, and how much it has.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace celslm {

struct MemoryLimit {
  std::uint64_t bytes = 0;  // the least of all limits
  std::string set_by;       // for people: "the machine", "its cgroup", "ulimit -v"
  std::uint64_t machine_bytes = 0;
};

// Looks at the machine's memory, the limits of the process's cgroup and of those above it (version 2 and 1), and its limit
// of address space. `root`: the folder that has proc and sys, for tests. `address_space_bytes`: RLIMIT_AS; absent: none.
MemoryLimit memory_limit(const std::filesystem::path& root, std::optional<std::uint64_t> address_space_bytes);
// Of this process.
MemoryLimit memory_limit();

struct ResidentMemory {
  std::uint64_t anonymous_bytes = 0;
  std::uint64_t mapped_bytes = 0;  // of files, and shared memory

  std::uint64_t bytes() const { return anonymous_bytes + mapped_bytes; }
};
// What of this process is in memory now; zeros where the system does not tell.
ResidentMemory resident_memory();

// Makes freed memory go back to the system: big allocations are mapped and unmapped, and threads share two heaps instead of
// having one each. Once, at the start of a server, before its threads.
void configure_heap();
// Returns what the heaps hold free to the system; takes milliseconds.
void trim_heap();

}  // namespace celslm
