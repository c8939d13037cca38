// Speed of the engine alone in tokens per second, measured like llama-bench: prefill of N tokens into an empty sequence, and
// decoding of N tokens one by one from an empty sequence, each after a separate warm-up. One line of JSON per run.
//
//   build/release/bench/celslm_bench_engine --model M.gguf --threads 2 --prefill 512 --decode 64
#include <chrono>
#include <cstdio>
#include <random>
#include <string>

#include "bench/cpp/support.h"
#include "model/engine/engine.h"

namespace celslm {
namespace {

using Clock = std::chrono::steady_clock;

struct Options : DecodeOptions {
  int prefill = 512;
  int runs = 1;
  bool plain = false;
};

class Bench {
 public:
  Bench(Engine& engine, KvType type, int capacity) : engine_(engine), type_(type), capacity_(capacity) {}

  Status prefill(int n) {
    start_empty();
    for (int done = 0; done < n; done += kPrefillStep) CELSLM_CHECK_OK(step(std::min(kPrefillStep, n - done)));
    return {};
  }

  Status decode(int n) {
    start_empty();
    for (int i = 0; i < n; ++i) CELSLM_CHECK_OK(step(1));
    return {};
  }

 private:
  void start_empty() { own_ = KvSegment::create(engine_.model().config(), type_, 0, capacity_).value(); }

  Status step(int n) {
    std::uniform_int_distribution<Token> any(0, engine_.model().config().n_vocab - 1);
    std::vector<Token> tokens(static_cast<std::size_t>(n));
    for (Token& t : tokens) t = any(random_);
    const SequenceChunk chunk{.own = own_, .own_length = own_->length(), .n_tokens = n};
    return engine_.forward(tokens, {&chunk, 1}).transform([](const auto&) {});
  }

  Engine& engine_;
  const KvType type_;
  const int capacity_;
  std::shared_ptr<KvSegment> own_;
  std::mt19937 random_{1};
};

template <typename F>
Result<double> seconds_of(F work) {
  const auto start = Clock::now();
  CELSLM_CHECK_OK(work());
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Status measure(Bench& bench, const Options& options) {
  CELSLM_CHECK_OK(bench.prefill(options.prefill));
  CELSLM_TRY(const double prefill, seconds_of([&] { return bench.prefill(options.prefill); }));
  CELSLM_CHECK_OK(bench.decode(1));
  CELSLM_TRY(const double decode, seconds_of([&] { return bench.decode(options.decode); }));
  std::printf("{\"prefill_tps\": %.2f, \"decode_tps\": %.2f, \"peak_mb\": %ld}\n", options.prefill / prefill,
              options.decode / decode, peak_mb());
  return {};
}

Status run(const Options& options) {
  CELSLM_TRY(const KvType type, kv_type_from(options.kv));
  CELSLM_TRY(const auto model, Model::load(options.model));
  CELSLM_TRY(const auto engine, Engine::create(model, {.n_threads = options.threads,
                                                       .kernels = options.plain ? KernelPath::kPlain : KernelPath::kFused}));
  Bench bench(*engine, type, std::max(options.prefill, options.decode));
  for (int i = 0; i < options.runs; ++i) CELSLM_CHECK_OK(measure(bench, options));
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::Options options;
  options.decode = 64;
  CLI::App app("Prefill and decode speed of the engine");
  celslm::add_decode_options(app, options);
  app.add_option("--prefill", options.prefill, "tokens")->check(CLI::Range(1, 1 << 20));
  app.add_option("--runs", options.runs)->check(CLI::Range(1, 1000));
  app.add_flag("--plain", options.plain, "attention by ggml's own operators");
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_engine", celslm::run(options));
}
