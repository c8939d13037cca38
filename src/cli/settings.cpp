#include "cli/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <filesystem>

namespace celslm {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxConfigBytes = 1U << 20;

// The command that the first arguments name, and how many of them do.
std::pair<CLI::App*, std::size_t> command_of(CLI::App& app, const std::vector<std::string>& arguments) {
  CLI::App* command = &app;
  std::size_t n = 0;
  while (n < arguments.size()) {
    CLI::App* const next = command->get_subcommand_no_throw(arguments[n]);
    if (next == nullptr) break;
    command = next;
    ++n;
  }
  return {command, n};
}

bool given(const CLI::Option& option, const std::vector<std::string>& arguments) {
  return std::ranges::any_of(arguments, [&](const std::string& argument) {
    const std::string name = argument.substr(0, argument.find('='));
    if (name.starts_with("--")) return option.check_lname(name.substr(2));
    return name.size() >= 2 && name.front() == '-' && option.check_sname(name.substr(1, 1));
  });
}

void append_values(std::vector<std::string>& out, const CLI::Option& option, std::string_view text) {
  const std::string name = "--" + option.get_lnames().front() + "=";
  const bool several =
      option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll || option.get_items_expected_max() > 1;
  while (several && text.contains(',')) {
    out.push_back(name + std::string(text.substr(0, text.find(','))));
    text.remove_prefix(text.find(',') + 1);
  }
  out.push_back(name + std::string(text));
}

// --config is the program's own option, which people write behind the command as well.
void move_config_to_front(std::vector<std::string>& arguments) {
  const auto it =
      std::ranges::find_if(arguments, [](const std::string& a) { return a == "--config" || a.starts_with("--config="); });
  if (it == arguments.end()) return;
  const auto end = *it == "--config" && it + 1 != arguments.end() ? it + 2 : it + 1;
  std::rotate(arguments.begin(), it, end);
}

// The library would read a device without an end, and says of a folder that it may be missing.
std::string check_config(const std::string& file) {
  std::error_code unknown;
  const fs::file_status found = fs::status(file, unknown);
  if (!fs::exists(found)) return fmt::format("{}: no such file", file);
  if (fs::is_directory(found) || fs::is_character_file(found) || fs::is_block_file(found))
    return fmt::format("{}: not a file with options", file);
  const std::uintmax_t size = fs::is_regular_file(found) ? fs::file_size(file, unknown) : 0;
  return size > kMaxConfigBytes ? fmt::format("{}: more than {} bytes of options", file, kMaxConfigBytes) : "";
}

}  // namespace

std::string variable_of(const CLI::App& command, const CLI::Option& option) {
  std::string out = option.get_lnames().empty() ? "" : option.get_lnames().front();
  for (const CLI::App* app = &command; app != nullptr; app = app->get_parent()) out = app->get_name() + "_" + out;
  std::ranges::transform(out, out.begin(),
                         [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::toupper(c)); });
  return out;
}

std::vector<std::string> with_environment(CLI::App& app, std::vector<std::string> arguments, const Environment& env) {
  const auto [command, n] = command_of(app, arguments);
  std::vector<std::string> added;
  for (const CLI::Option* option : command->get_options()) {
    if (option->get_lnames().empty() || option == command->get_help_ptr() || given(*option, arguments)) continue;
    const auto value = env.variable(variable_of(*command, *option).c_str());
    if (value && !value->empty()) append_values(added, *option, *value);
  }
  arguments.insert(arguments.begin() + static_cast<std::ptrdiff_t>(n), added.begin(), added.end());
  if (!app.get_config_ptr()) return arguments;
  if (const auto file = env.variable("CELSLM_CONFIG"); file && !file->empty() && !given(*app.get_config_ptr(), arguments))
    arguments.insert(arguments.begin(), "--config=" + *file);
  move_config_to_front(arguments);
  return arguments;
}

void add_config_option(CLI::App& app) {
  app.set_config("--config", "", "TOML file with options: a section for each command, [edge], with keys such as max-users")
      ->check(check_config)
      ->option_text("FILE");
  app.allow_config_extras(CLI::config_extras_mode::error);  // a misspelled key is not ignored
  app.config_formatter(std::make_shared<CLI::ConfigTOML>());
}

}  // namespace celslm
