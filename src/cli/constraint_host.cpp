// celslm constraint-host: the process that an edge runs grammars in; not for people.
#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "model/constraint/constraint_child.h"

namespace celslm {

void add_constraint_host(CLI::App& app, Environment& env) {
  auto model_file = std::make_shared<std::string>();
  CLI::App* host = app.add_subcommand(kConstraintHostCommand, "Run grammars for the edge that starts this");
  host->group("");  // not in --help
  host->add_option("model", *model_file)->required();
  host->callback(
      [model_file, &env] { env.action = [model_file] { return run_constraint_host(*model_file, kControlDescriptor); }; });
}

}  // namespace celslm
