#include "cli/commands.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <ostream>
#include <string_view>

#include "cli/align/align.h"
#include "cli/settings.h"
#include "cli/study/study.h"
#include "core/printable.h"
#include "core/version.h"

namespace celslm {
namespace {

constexpr std::array kCommands{
    add_cloud,    add_edge,   add_context,       add_pack,     add_align,           add_study,
    add_condense, add_tuning, add_model,         add_tokens,   add_constraint_host, add_doctor,
    add_cert,     add_key,    add_privacy_audit, add_simulate, add_completion,      add_man,
};

constexpr const char* kDescription =
    "LLM inference by a cloud and edges. Long texts that many requests begin with (contexts) are registered at a cloud, "
    "which computes their KV cache once; edges answer requests with small models and fetch that KV cache instead of "
    "computing it. 'celslm COMMAND --help' explains a command and shows examples.";

// The command as far as it was recognised: "celslm context put".
std::string chosen_command(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app.get_name() : app.get_name() + " " + chosen_command(*chosen.front());
}

std::string config_file(const CLI::App& app) {
  return app.get_config_ptr() ? app.get_config_ptr()->as<std::string>() : "";
}

// Of a configuration file: the last words of the library's message, which has neither the file's name nor ours for it.
std::string what_was_not_read(const CLI::ConfigError& error) {
  constexpr std::string_view kBefore = "INI was not able to parse ";
  const std::string_view text = error.what();
  return fmt::format("'{}'", printable(text.starts_with(kBefore) ? text.substr(kBefore.size()) : text));
}

// A result that a full disk swallowed must not look like one.
int flushed(Environment& env) {
  env.out.flush();
  return env.out ? kExitFine : failed(env, {ErrorKind::kIo, "cannot write the output: is the disk full?"});
}

}  // namespace

int run_command_line(int argc, const char* const* argv, Environment& env) {
  CLI::App app(kDescription, "celslm");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string(program_version()));
  app.get_formatter()->enable_footer_formatting(false);  // examples keep their lines
  for (const auto add : kCommands) add(app, env);
  add_config_option(app);
  try {
    auto arguments = with_environment(app, {argv + 1, argv + argc}, env);
    std::ranges::reverse(arguments);  // as the library takes them
    app.parse(std::move(arguments));
  } catch (const CLI::ConfigError& e) {
    return misused(env,
                   fmt::format("{}: cannot read {}: below a section such as [edge] each key is an option of that command, "
                               "without '--' (see '{} --help')",
                               config_file(app), what_was_not_read(e), chosen_command(app)));
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {  // --help, --version
      app.exit(e, env.out, env.err);
      return flushed(env);
    }
    return misused(env, fmt::format("{} (see '{} --help')", e.what(), chosen_command(app)));
  }
  if (!env.action) return misused(env, "nothing to do");
  const int code = env.action();
  return code == kExitFine ? flushed(env) : code;
}

}  // namespace celslm
