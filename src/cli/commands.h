// The subcommands: each file adds its own to the command line. A new one is a function here and a line in commands.cpp.
#pragma once

#include <CLI/App.hpp>

#include "cli/terminal/environment.h"

namespace celslm {

// Adds the subcommand; its callback sets env.action and does nothing else.
void add_cert(CLI::App& app, Environment& env);
void add_cloud(CLI::App& app, Environment& env);
void add_constraint_host(CLI::App& app, Environment& env);
void add_edge(CLI::App& app, Environment& env);
void add_context(CLI::App& app, Environment& env);
void add_key(CLI::App& app, Environment& env);
void add_pack(CLI::App& app, Environment& env);
void add_condense(CLI::App& app, Environment& env);
void add_model(CLI::App& app, Environment& env);
void add_tokens(CLI::App& app, Environment& env);
void add_completion(CLI::App& app, Environment& env);
// The subcommand of `celslm model`.
void add_model_get(CLI::App& model, Environment& env);
void add_man(CLI::App& app, Environment& env);
void add_tuning(CLI::App& app, Environment& env);

void add_doctor(CLI::App& app, Environment& env);
void add_privacy_audit(CLI::App& app, Environment& env);
void add_simulate(CLI::App& app, Environment& env);

// Parses the command line, runs the command and returns its exit code.
int run_command_line(int argc, const char* const* argv, Environment& env);

}  // namespace celslm
