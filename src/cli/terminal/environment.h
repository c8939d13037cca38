// What a command may use of the process it runs in; created in main, replaced in tests.
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string>

#include "cli/terminal/signals.h"
#include "core/clock.h"
#include "core/result.h"

namespace celslm {

// Exit codes of every command.
inline constexpr int kExitFine = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// One per process; outlives every command.
struct Environment {
  std::ostream& out;  // results: what scripts read
  std::ostream& err;  // progress and errors: what people read
  std::istream& in;
  std::function<std::optional<std::string>(const char* name)> variable;  // of the process's environment
  SignalWatch& signals;
  const Clock& clock;

  // Set by the subcommand that was chosen; returns the exit code.
  std::function<int()> action;
};

// The process's streams and variables.
Environment environment_of_process(SignalWatch& signals, const Clock& clock);

// "celslm: message" on env.err, and the exit code to return.
int failed(Environment& env, const Error& error);
int misused(Environment& env, const std::string& message);

// The data folder without --data: $XDG_DATA_HOME/celslm, else ~/.local/share/celslm. kNotFound when neither
// variable is set.
Result<std::filesystem::path> default_data_folder(const Environment& env);

}  // namespace celslm
