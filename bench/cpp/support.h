// Shared by the benchmark programs.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

#include "core/result.h"

namespace celslm {

// Options of every program.
struct ProgramOptions {
  std::string model;
  int threads = 2;
};
inline void add_program_options(CLI::App& app, ProgramOptions& options) {
  app.add_option("--model", options.model, "GGUF")->required();
  app.add_option("--threads", options.threads);
}

// Options of programs that decode.
struct DecodeOptions : ProgramOptions {
  std::string kv = "f16";
  int decode = 0;
};
inline void add_decode_options(CLI::App& app, DecodeOptions& options) {
  add_program_options(app, options);
  app.add_option("--kv", options.kv, "type of K and V: f16, bf16, f32");
  app.add_option("--decode", options.decode, "tokens to decode, per user")->check(CLI::Range(1, 1 << 20));
}

// Elapsed since it was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Peak resident memory of this process in MiB.
inline long peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stol(line.substr(6)) / 1024;
  }
  return 0;
}

// Prints an error to stderr and returns the program's exit code.
inline int exit_code(const char* program, const Status& status) {
  if (status) return 0;
  std::fprintf(stderr, "%s: %s\n", program, status.error().message.c_str());
  return 1;
}

}  // namespace celslm
