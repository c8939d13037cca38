// Shared by the benchmark programs.
#pragma once

#include <cstdio>
#include <fstream>
#include <string>

#include "core/result.h"

namespace celslm {

// The most memory this process has had resident so far, in MiB.
inline long peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stol(line.substr(6)) / 1024;
  }
  return 0;
}

// The program's exit code; says on stderr what went wrong.
inline int exit_code(const char* program, const Status& status) {
  if (status) return 0;
  std::fprintf(stderr, "%s: %s\n", program, status.error().message.c_str());
  return 1;
}

}  // namespace celslm
