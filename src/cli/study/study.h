// celslm study
#pragma once

#include <CLI/App.hpp>

#include "cli/terminal/environment.h"

namespace celslm {

// Adds the subcommand; its callback puts what is to be done into env.action and touches nothing else.
void add_study(CLI::App& app, Environment& env);

}  // namespace celslm
