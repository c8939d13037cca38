// The processes that run grammars. A host loads a vocabulary, once, and forks a child for each answer that has a grammar; a
// child holds one grammar and serves one socket, under limits of time and memory, without a way to open anything.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>

namespace celslm {

struct ChildLimits {
  std::chrono::milliseconds step_time{1'000};  // of processor time: to compile, or for one question
  std::chrono::seconds all_time{60};           // of processor time, all together
  std::uint64_t memory_bytes = 192ULL << 20;   // beyond what the host had when it forked
};

// The host's life: reports on `control` that it is ready (or why it is not), then answers each byte that comes with a
// child's socket and pidfd, until the other side closes. Returns the process's exit code. It ignores SIGINT and SIGTERM:
// those who started it end it by closing.
int run_constraint_host(const std::filesystem::path& model, int control, const ChildLimits& limits = {});

// What the hidden subcommand that does so is called, and the descriptor that it finds its control socket at.
inline constexpr const char* kConstraintHostCommand = "constraint-host";
inline constexpr int kControlDescriptor = 3;

}  // namespace celslm
