// celslm completion, celslm man: made from the options themselves.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ostream>

#include "cli/commands.h"
#include "cli/settings.h"
#include "core/version.h"

namespace celslm {
namespace {

using Call = std::function<void(const std::string& path, CLI::App& command)>;

// Those that help shows: one for programs only has no group.
std::vector<CLI::App*> shown_commands(CLI::App& app) {
  return app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); });
}

// Calls for every command, "" for the program itself, "context put" for one of two words.
void for_each_command(CLI::App& app, const std::string& path, const Call& call) {
  call(path, app);
  for (CLI::App* sub : shown_commands(app))
    for_each_command(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), call);
}

// Options that help shows: those of earlier versions have no group.
std::vector<const CLI::Option*> shown_options(const CLI::App& command) {
  std::vector<const CLI::Option*> out;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_group().empty() && !option->get_lnames().empty()) out.push_back(option);
  }
  return out;
}

std::string words_of(CLI::App& command) {
  std::string out;
  for (const CLI::App* sub : shown_commands(command)) out += sub->get_name() + " ";
  for (const CLI::Option* option : shown_options(command)) out += "--" + option->get_lnames().front() + " ";
  return out;
}

std::string bash_completion(CLI::App& app) {
  std::string paths;
  std::string words;
  for_each_command(app, "", [&](const std::string& path, CLI::App& command) {
    if (!path.empty()) paths += fmt::format("{}\" {}\"", paths.empty() ? "" : " | ", path);
    words += fmt::format("    \"{}\") words=\"{}\" ;;\n", path.empty() ? "" : " " + path, words_of(command));
  });
  return fmt::format(R"(_celslm() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} path= word words=
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$path $word" in {}) path="$path $word" ;; esac
  done
  case "$path" in
{}  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [ ${{#COMPREPLY[@]}} -eq 0 ]; then COMPREPLY=($(compgen -f -- "$current")); fi
}}
complete -o filenames -F _celslm celslm
)",
                     paths, words);
}

std::string quoted(std::string text) {
  for (std::size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return "'" + text + "'";
}

std::string fish_completion(CLI::App& app) {
  std::string out = "complete -c celslm -e\n";
  for_each_command(app, "", [&](const std::string& path, CLI::App& command) {
    const std::string when =
        path.empty() ? "__fish_use_subcommand" : "__fish_seen_subcommand_from " + path.substr(path.rfind(' ') + 1);
    for (const CLI::App* sub : shown_commands(command))
      out += fmt::format("complete -c celslm -n {} -a {} -d {}\n", quoted(when), sub->get_name(),
                         quoted(sub->get_description()));
    for (const CLI::Option* option : shown_options(command))
      out += fmt::format("complete -c celslm -n {} -l {}{} -d {}\n", quoted(when), option->get_lnames().front(),
                         option->get_items_expected_max() > 0 ? " -r" : "", quoted(option->get_description()));
  });
  return out;
}

// Text for troff: no escapes or requests of its own.
std::string troff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) {
      out += std::string("\\&") + c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string option_entry(const CLI::App& command, const CLI::Option& option) {
  const std::string kind = option.get_option_text().empty() ? option.get_type_name() : option.get_option_text();
  std::string names = "--" + option.get_lnames().front();
  for (const std::string& name : option.get_snames()) names += ", -" + name;
  return fmt::format(".TP\n\\fB{}\\fR {}\n{} ({})\n", troff(names), troff(kind), troff(option.get_description()),
                     troff(variable_of(command, option)));
}

std::string man_page(const std::string& path, CLI::App& command) {
  std::string name = path.empty() ? "celslm" : "celslm-" + path;
  std::ranges::replace(name, ' ', '-');
  std::string out = fmt::format(".TH {} 1 \"\" \"celslm {}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B celslm {}\n",
                                troff(name), program_version(), troff(name), troff(command.get_description()), troff(path));
  out += shown_commands(command).empty() ? "[OPTIONS]\n" : "COMMAND [OPTIONS]\n";
  if (!shown_commands(command).empty()) out += ".SH COMMANDS\n";
  for (const CLI::App* sub : shown_commands(command))
    out += fmt::format(".TP\n\\fB{}\\fR\n{}\n", troff(sub->get_name()), troff(sub->get_description()));
  out +=
      ".SH OPTIONS\nEach can be set by the environment variable named with it, too, and in the section of its command of "
      "a TOML file (celslm \\-\\-config FILE).\n";
  for (const CLI::Option* option : shown_options(command)) out += option_entry(command, *option);
  if (!command.get_footer().empty()) out += ".SH EXAMPLES\n.nf\n" + troff(command.get_footer()) + "\n.fi\n";
  return out + ".SH EXIT STATUS\n0 on success, 1 on failure, 2 for a command line that cannot be understood.\n";
}

Status print_man(Environment& env, CLI::App& app, const std::vector<std::string>& words) {
  CLI::App* command = &app;
  std::string path;
  for (const std::string& word : words) {
    command = command->get_subcommand_no_throw(word);
    if (command == nullptr) return fail(ErrorKind::kNotFound, "no command '{}': see 'celslm --help'", word);
    path += (path.empty() ? "" : " ") + word;
  }
  env.out << man_page(path, *command) << std::flush;
  return {};
}

}  // namespace

void add_completion(CLI::App& app, Environment& env) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "Print completions for a shell");
  command->footer(
      "Examples:\n  source <(celslm completion bash)\n  celslm completion fish >~/.config/fish/completions/celslm.fish\n");
  command->add_option("SHELL", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([&app, &env, shell] {
    env.action = [&app, &env, shell] {
      if (*shell == "zsh") env.out << "autoload -U +X bashcompinit && bashcompinit\n";
      env.out << (*shell == "fish" ? fish_completion(app) : bash_completion(app)) << std::flush;
      return kExitFine;
    };
  });
}

void add_man(CLI::App& app, Environment& env) {
  auto words = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand("man", "Print the manual page of a command");
  command->footer("Examples:\n  celslm man edge | man -l -\n  celslm man context put >celslm-context-put.1\n");
  command->add_option("COMMAND", *words, "Words of the command (default: the program itself)");
  command->callback([&app, &env, words] {
    env.action = [&app, &env, words] {
      const Status status = print_man(env, app, *words);
      return status ? kExitFine : failed(env, status.error());
    };
  });
}

}  // namespace celslm
