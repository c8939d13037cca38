// celslm study
#pragma once

#include <CLI/App.hpp>
#include <string>

#include "align/study/progress.h"
#include "cli/terminal/environment.h"

namespace celslm {

// Adds the subcommand; its callback puts what is to be done into env.action and touches nothing else.
void add_study(CLI::App& app, Environment& env);

// The option that chooses how questions come about, for each command that studies.
void add_ask_by(CLI::App& app, const std::string& name, AskBy& value);

}  // namespace celslm
