#include <csignal>
#include <cstdlib>
#include <iostream>

#include "cli/commands.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a client that hangs up is an error of one write, not the end of the process
  celslm::SignalWatch signals;
  const celslm::SystemClock clock;
  celslm::Environment env{
      .out = std::cout,
      .err = std::cerr,
      .in = std::cin,
      .variable =
          [](const char* name) {
            const char* value = std::getenv(name);
            return value == nullptr ? std::nullopt : std::optional<std::string>(value);
          },
      .signals = signals,
      .clock = clock,
      .action = {},
  };
  return celslm::run_command_line(argc, argv, env);
}
