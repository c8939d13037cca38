// celslm_relay: the relay as a program, for the demo and the benchmarks where the kernel's traffic control is unavailable.
#include <signal.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "tests/support/relay.h"

namespace {

// Parses "HOST:PORT"; false if malformed.
bool split_address(const std::string& text, std::string& host, int& port) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon + 1 == text.size() || text.size() - colon > 6) return false;
  if (text.find_first_not_of("0123456789", colon + 1) != std::string::npos) return false;
  host = text.substr(0, colon);
  port = std::stoi(text.substr(colon + 1));
  return port <= 65535;
}

// Executes a command: "rate MBIT", "pause", "resume", "cut", "garble BYTES".
void execute(celslm::testing_support::Relay& relay, const std::string& command) {
  std::istringstream words(command);
  std::string verb;
  double number = 0;
  words >> verb >> number;
  if (verb == "rate") relay.set_rate(number);
  if (verb == "pause") relay.pause();
  if (verb == "resume") relay.resume();
  if (verb == "cut") relay.cut();
  if (verb == "garble") relay.garble(0, static_cast<std::uint64_t>(number));
}

// Executes commands from a named pipe, which is reopened for each writer; runs until the process ends.
void execute_commands(celslm::testing_support::Relay& relay, const std::string& path) {
  for (std::ifstream commands(path); commands; commands = std::ifstream(path)) {
    for (std::string command; std::getline(commands, command);) execute(relay, command);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Relays TCP connections over a link of the given rate and delay, until SIGINT or SIGTERM."};
  celslm::testing_support::RelayOptions options;
  std::string listen = "127.0.0.1:0";
  std::string to;
  std::string control;
  double delay_ms = 0;
  app.add_option("--listen", listen, "HOST:PORT to listen on; port 0: any free port")->capture_default_str();
  app.add_option("--to", to, "HOST:PORT to relay to")->required();
  app.add_option("--rate", options.rate_mbit, "Mbit/s in each direction, shared by all connections; 0: unlimited")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--delay", delay_ms, "one-way delay in milliseconds")->check(CLI::NonNegativeNumber);
  app.add_option("--drop-after", options.drop_after_bytes, "cut the link after this many bytes from the server");
  app.add_option("--stall-after", options.stall_after_bytes,
                 "stop forwarding, without an error, after this many bytes from the server");
  app.add_option("--record", options.record_file, "append every byte that clients send to this file");
  app.add_option("--control", control,
                 "create a named pipe and execute commands from it: rate MBIT, pause, resume, cut, garble BYTES");
  CLI11_PARSE(app, argc, argv);
  if (!split_address(listen, options.listen_host, options.listen_port) ||
      !split_address(to, options.to_host, options.to_port)) {
    std::fprintf(stderr, "celslm_relay: addresses must have the form HOST:PORT\n");
    return 2;
  }
  options.delay = std::chrono::microseconds(static_cast<std::int64_t>(delay_ms * 1000));

  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends,
                  nullptr);  // before the relay's thread starts, so that only sigwait() below receives them

  const auto relay = celslm::testing_support::Relay::start(options);
  if (!relay) {
    std::fprintf(stderr, "celslm_relay: %s\n", relay.error().message.c_str());
    return 1;
  }
  if (!control.empty()) {  // before the relay is announced, since a writer would create a regular file of that name
    ::mkfifo(control.c_str(), 0600);
    std::thread([&relay, control] { execute_commands(**relay, control); }).detach();
  }
  std::printf("listening on %s\n", (*relay)->url().c_str());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&ends, &signal);
  std::printf("%llu bytes up, %llu bytes down, %d connections\n", static_cast<unsigned long long>((*relay)->bytes_up()),
              static_cast<unsigned long long>((*relay)->bytes_down()), (*relay)->connections());
  std::fflush(stdout);
  if (!control.empty()) std::_Exit(0);  // the command thread is blocked until the next writer
  return 0;
}
