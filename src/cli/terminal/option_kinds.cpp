#include "cli/terminal/option_kinds.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

namespace celslm {
namespace {

// "4GB", as it may be given.
std::string size_text(std::uint64_t bytes) {
  static constexpr std::array kUnits{"", "KB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (bytes > 0 && bytes % 1024 == 0 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{}{}", bytes, kUnits[unit]);
}

}  // namespace

CLI::Option* add_number(CLI::App& app, const std::string& name, int& value, int least, int most, const std::string& help) {
  return app.add_option(name, value, help)
      ->check(CLI::Range(least, most))
      ->option_text(fmt::format("{}..{} [{}]", least, most, value));
}

// CLI::Range lets what compares with nothing pass.
CLI::Option* add_real(CLI::App& app, const std::string& name, double& value, double least, double most,
                      const std::string& help) {
  const auto check = [least, most](const std::string& given) -> std::string {
    double number = 0;
    const bool fine = CLI::detail::lexical_cast(given, number) && number >= least && number <= most;
    return fine ? "" : fmt::format("'{}' is not a number from {} to {}", given, least, most);
  };
  return app.add_option(name, value, help)->check(check)->option_text(fmt::format("X [{}]", value));
}

CLI::Option* add_milliseconds(CLI::App& app, const std::string& name, std::chrono::milliseconds& value, int least, int most,
                              const std::string& help) {
  return app.add_option_function<int>(
                name, [&value](int given) { value = std::chrono::milliseconds(given); }, help)
      ->check(CLI::Range(least, most))
      ->option_text(fmt::format("{}..{} [{}]", least, most, value.count()));
}

CLI::Option* add_size(CLI::App& app, const std::string& name, std::uint64_t& bytes, const std::string& help,
                      const std::string& default_text) {
  return app.add_option(name, bytes, help)
      ->transform(CLI::AsSizeValue(false))
      ->option_text(fmt::format("SIZE [{}]", default_text.empty() ? size_text(bytes) : default_text));
}

CLI::Option* add_list(CLI::App& app, const std::string& name, std::vector<std::string>& values, const std::string& kind,
                      const std::string& help) {
  return app.add_option(name, values, help + "; may be given several times")->expected(1)->take_all()->option_text(kind);
}

CLI::Option* add_word(CLI::App& app, const std::string& name, const std::vector<std::string>& words,
                      std::size_t default_word, const std::string& help, std::function<void(std::size_t chosen)> choose) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : "|") + word;
  const auto set = [words, choose = std::move(choose)](const std::string& given) {
    choose(static_cast<std::size_t>(std::ranges::find(words, given) - words.begin()));
  };
  return app.add_option_function<std::string>(name, set, help)
      ->check(CLI::IsMember(words))
      ->option_text(fmt::format("{} [{}]", text, words[default_word]));
}

}  // namespace celslm
