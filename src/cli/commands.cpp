#include "cli/commands.h"

#include <CLI/Error.hpp>
#include <array>
#include <ostream>

namespace celslm {
namespace {

constexpr std::array kCommands{
    add_cloud,
    add_edge,
    add_context,
    add_pack,
};

constexpr const char* kDescription =
    "celslm: clouds compute the KV caches of shared contexts once, edges answer from them.\n"
    "'celslm COMMAND --help' explains a command and gives examples.";

}  // namespace

int run_command_line(int argc, const char* const* argv, Environment& env) {
  CLI::App app(kDescription, "celslm");
  app.require_subcommand(1);
  app.set_version_flag("--version", CELSLM_VERSION);
  for (const auto add : kCommands) add(app, env);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {  // --help, --version
      app.exit(e, env.out, env.err);
      return kExitFine;
    }
    return misused(env, std::format("{} ('celslm --help' shows the commands)", e.what()));
  }
  return env.action ? env.action() : misused(env, "nothing to do");
}

}  // namespace celslm
