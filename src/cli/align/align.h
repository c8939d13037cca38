// celslm align and its subcommands.
#pragma once

#include <CLI/App.hpp>

#include "cli/terminal/environment.h"

namespace celslm {

// Adds the subcommand; its callbacks put what is to be done into env.action and touch nothing else.
void add_align(CLI::App& app, Environment& env);

// A file each.
void add_align_fit(CLI::App& align, Environment& env);
void add_align_fuse(CLI::App& align, Environment& env);
void add_align_report(CLI::App& align, Environment& env);

}  // namespace celslm
