// Shared by the benchmark programs.
#pragma once

#include <fstream>
#include <string>

namespace celslm {

// The most memory this process has had resident so far, in MiB.
inline long peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stol(line.substr(6)) / 1024;
  }
  return 0;
}

}  // namespace celslm
