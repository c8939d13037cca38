// An edge in every respect but its engine's speed, which is that of recorded timings: for fleets of processes on few cores.
//
//   build/release/bench/celslm_bench_paced_edge --prefill 200 --decode-base 0.03 edge --model M.gguf ...
#include <CLI/CLI.hpp>
#include <csignal>

#include "bench/cpp/paced_engine.h"
#include "cli/edge.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  celslm::SignalWatch signals;
  const celslm::SystemClock clock;
  celslm::Environment env = celslm::environment_of_process(signals, clock);
  celslm::RecordedTimings timings;
  CLI::App app("An edge whose engine takes as long as recorded timings say");
  app.require_subcommand(1);
  app.add_option("--prefill", timings.prefill_tokens_per_s, "tokens per second")->check(CLI::Range(1.0, 1e9));
  app.add_option("--decode-base", timings.decode_base_s, "seconds of a step")->check(CLI::Range(0.0, 1e3));
  app.add_option("--decode-per-user", timings.decode_per_user_s, "seconds more for each answer")
      ->check(CLI::Range(0.0, 1e3));
  celslm::add_edge_with(app, env, [&timings](std::unique_ptr<celslm::Engine> engine) -> std::unique_ptr<celslm::Engine> {
    return std::make_unique<celslm::PacedEngine>(std::move(engine), timings);
  });
  CLI11_PARSE(app, argc, argv);
  return env.action();
}
