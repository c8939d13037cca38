#include "cli/terminal/environment.h"

#include <cstdlib>
#include <iostream>

namespace celslm {
namespace {

void print_error(Environment& env, const std::string& message) {
  env.err << "celslm: " << message << std::endl;
}

std::optional<std::string> variable_of_process(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

}  // namespace

Environment environment_of_process(SignalWatch& signals, const Clock& clock) {
  return {.out = std::cout,
          .err = std::cerr,
          .in = std::cin,
          .variable = variable_of_process,
          .signals = signals,
          .clock = clock,
          .action = {}};
}

int failed(Environment& env, const Error& error) {
  print_error(env, error.message);
  return kExitFailed;
}

int misused(Environment& env, const std::string& message) {
  print_error(env, message);
  return kExitUsage;
}

Result<std::filesystem::path> default_data_folder(const Environment& env) {
  // The XDG specification requires a relative XDG_DATA_HOME to be ignored.
  if (const auto xdg = env.variable("XDG_DATA_HOME"); xdg && xdg->starts_with('/'))
    return std::filesystem::path(*xdg) / "celslm";
  if (const auto home = env.variable("HOME"); home && !home->empty())
    return std::filesystem::path(*home) / ".local/share/celslm";
  return fail(ErrorKind::kNotFound, "neither XDG_DATA_HOME nor HOME is set: give a data folder with --data");
}

}  // namespace celslm
