// The subcommands of celslm align, a file each.
#pragma once

#include <CLI/App.hpp>

#include "cli/environment.h"

namespace celslm {

void add_align_fit(CLI::App& align, Environment& env);
void add_align_fuse(CLI::App& align, Environment& env);
void add_align_report(CLI::App& align, Environment& env);

}  // namespace celslm
