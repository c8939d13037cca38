// Options from elsewhere than the command line: environment variables and a configuration file. The command line wins over
// the environment, and that over the file.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "cli/terminal/environment.h"

namespace celslm {

// The variable that sets an option of this command: CELSLM_EDGE_MAX_USERS for --max-users of `celslm edge`.
std::string variable_of(const CLI::App& command, const CLI::Option& option);

// The arguments, and for each option of the command that they name and whose variable is set, that option: those given as
// arguments are left as they are. Several values of an option are separated by commas.
std::vector<std::string> with_environment(CLI::App& app, std::vector<std::string> arguments, const Environment& env);

// Adds --config: a TOML file with a section for each command, [edge], whose keys are the options without "--".
void add_config_option(CLI::App& app);

}  // namespace celslm
