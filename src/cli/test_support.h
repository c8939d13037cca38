// Shared by the tests of the command line.
#pragma once

#include <future>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"

namespace celslm::testing_support {

// A stream that tells about its first line as soon as that is flushed.
class FirstLine final : public std::stringbuf {
 public:
  std::future<std::string> line() { return line_.get_future(); }
  // No line will come any more.
  void end() {
    if (!std::exchange(told_, true)) line_.set_value("");
  }

 protected:
  int sync() override {
    const std::string text = str();
    if (!told_ && text.contains('\n')) {
      told_ = true;
      line_.set_value(text.substr(0, text.find('\n')));
    }
    return 0;
  }

 private:
  std::promise<std::string> line_;
  bool told_ = false;
};

// One invocation of the program, in this process.
struct Invocation {
  std::istringstream in;
  FirstLine out_buffer;
  std::ostream out{&out_buffer};
  std::ostringstream err;
  std::map<std::string, std::string> variables;
  SignalWatch signals;
  SystemClock clock;

  int run(const std::vector<std::string>& arguments) {
    std::vector<const char*> argv{"celslm"};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    Environment env{.out = out,
                    .err = err,
                    .in = in,
                    .variable =
                        [this](const char* name) {
                          const auto it = variables.find(name);
                          return it == variables.end() ? std::nullopt : std::optional(it->second);
                        },
                    .signals = signals,
                    .clock = clock,
                    .action = {}};
    return run_command_line(static_cast<int>(argv.size()), argv.data(), env);
  }
  std::string output() const { return out_buffer.str(); }
  std::string errors() const { return err.str(); }
};

}  // namespace celslm::testing_support
