// Kinds of command-line options that CLI11 has not, or describes poorly in --help: each parses straight into its variable
// and shows its default.
#pragma once

#include <CLI/App.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace celslm {

// The variable must outlive the parsing; its value at the time of the call is the default.

// An integer from `least` to `most`.
CLI::Option* add_number(CLI::App& app, const std::string& name, int& value, int least, int most, const std::string& help);
// A number with a fraction, in the same way. "nan", which is in no range, is refused.
CLI::Option* add_real(CLI::App& app, const std::string& name, double& value, double least, double most,
                      const std::string& help);
CLI::Option* add_milliseconds(CLI::App& app, const std::string& name, std::chrono::milliseconds& value, int least, int most,
                              const std::string& help);
// A number of bytes, such as 500MB or 4GB (powers of 1024). default_text: what --help shows, unless empty, for the default.
CLI::Option* add_size(CLI::App& app, const std::string& name, std::uint64_t& bytes, const std::string& help,
                      const std::string& default_text = {});
// An option that may be given several times. kind: of one value, for --help: "FILE".
CLI::Option* add_list(CLI::App& app, const std::string& name, std::vector<std::string>& values, const std::string& kind,
                      const std::string& help);

// One of a few words.
CLI::Option* add_word(CLI::App& app, const std::string& name, const std::vector<std::string>& words,
                      std::size_t default_word, const std::string& help, std::function<void(std::size_t chosen)> choose);
template <typename T>
CLI::Option* add_choice(CLI::App& app, const std::string& name, T& value, std::vector<std::pair<std::string, T>> choices,
                        const std::string& help) {
  std::vector<std::string> words;
  std::size_t default_word = 0;
  for (const auto& [word, meaning] : choices) {
    if (meaning == value) default_word = words.size();
    words.push_back(word);
  }
  return add_word(app, name, words, default_word, help,
                  [&value, choices = std::move(choices)](std::size_t chosen) { value = choices[chosen].second; });
}

}  // namespace celslm
