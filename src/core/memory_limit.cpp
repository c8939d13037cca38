#include "core/memory_limit.h"

#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

namespace celslm {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kKilobyte = 1024;

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The number behind `key`; nothing for "max", or without the key.
std::optional<std::uint64_t> number_in(std::string_view text, std::string_view key = "") {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  text.remove_prefix(at + key.size());
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  std::uint64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() ? std::optional(out) : std::nullopt;
}

// The least limit of a cgroup and those above it. In a container the process's path may lead out of what is mounted there:
// then the mount's own root is the cgroup.
std::optional<std::uint64_t> least_limit(const fs::path& mount, const std::string& path, const char* file) {
  std::optional<std::uint64_t> out;
  const auto look = [&](const fs::path& folder) {
    const auto limit = number_in(text_of(folder / file));
    if (limit) out = std::min(out.value_or(*limit), *limit);
  };
  look(mount);
  fs::path folder = mount;
  for (const fs::path& part : fs::path(path).relative_path()) {
    if (part == "..") break;
    folder /= part;
    look(folder);
  }
  return out;
}

// /proc/self/cgroup: "0::/path" for version 2, "4:memory:/path" for version 1.
std::optional<std::uint64_t> cgroup_limit(const fs::path& root) {
  const fs::path mount = root / "sys/fs/cgroup";
  std::optional<std::uint64_t> out;
  std::istringstream lines(text_of(root / "proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    std::optional<std::uint64_t> limit;
    if (line.starts_with("0::")) limit = least_limit(mount, path, "memory.max");
    if (controllers.contains(",memory,")) limit = least_limit(mount / "memory", path, "memory.limit_in_bytes");
    if (limit) out = std::min(out.value_or(*limit), *limit);
  }
  return out;
}

}  // namespace

MemoryLimit memory_limit(const fs::path& root, std::optional<std::uint64_t> address_space_bytes) {
  const std::uint64_t machine = number_in(text_of(root / "proc/meminfo"), "MemTotal:").value_or(0) * kKilobyte;
  MemoryLimit out{.bytes = machine, .set_by = "the machine", .machine_bytes = machine};
  const auto at_most = [&](std::optional<std::uint64_t> limit, const char* set_by) {
    if (!limit || (out.bytes != 0 && *limit >= out.bytes)) return;
    out.bytes = *limit;
    out.set_by = set_by;
  };
  at_most(cgroup_limit(root), "its cgroup");
  at_most(address_space_bytes, "ulimit -v");
  return out;
}

MemoryLimit memory_limit() {
  rlimit limit{};
  const bool limited = ::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  return memory_limit("/", limited ? std::optional<std::uint64_t>(limit.rlim_cur) : std::nullopt);
}

ResidentMemory resident_memory() {
  const std::string status = text_of("/proc/self/status");
  const auto bytes = [&](std::string_view key) { return number_in(status, key).value_or(0) * kKilobyte; };
  return {.anonymous_bytes = bytes("RssAnon:"), .mapped_bytes = bytes("RssFile:") + bytes("RssShmem:")};
}

void configure_heap() {
  constexpr int kHeaps = 2;
  constexpr int kMappedFrom = 512 * 1024;  // a fixed threshold: it would grow to 32 MB with the first big block freed
  constexpr int kTrimFrom = 1024 * 1024;
  ::mallopt(M_ARENA_MAX, kHeaps);
  ::mallopt(M_MMAP_THRESHOLD, kMappedFrom);
  ::mallopt(M_TRIM_THRESHOLD, kTrimFrom);
}

void trim_heap() {
  ::malloc_trim(0);
}

}  // namespace celslm
