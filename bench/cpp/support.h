// Shared by the benchmark programs.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <string>

#include "core/result.h"

namespace celslm {

// What every program takes.
struct ProgramOptions {
  std::string model;
  int threads = 2;
};
inline void add_program_options(CLI::App& app, ProgramOptions& options) {
  app.add_option("--model", options.model, "GGUF")->required();
  app.add_option("--threads", options.threads);
}

// What a program takes that decodes.
struct DecodeOptions : ProgramOptions {
  std::string kv = "f16";
  int decode = 0;
};
inline void add_decode_options(CLI::App& app, DecodeOptions& options) {
  add_program_options(app, options);
  app.add_option("--kv", options.kv, "type of K and V: f16, bf16, f32");
  app.add_option("--decode", options.decode, "tokens, of each user where there are several")->check(CLI::Range(1, 1 << 20));
}

// The most memory this process has had resident so far, in MiB.
inline long peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stol(line.substr(6)) / 1024;
  }
  return 0;
}

// The program's exit code; an error goes to stderr.
inline int exit_code(const char* program, const Status& status) {
  if (status) return 0;
  std::fprintf(stderr, "%s: %s\n", program, status.error().message.c_str());
  return 1;
}

}  // namespace celslm
