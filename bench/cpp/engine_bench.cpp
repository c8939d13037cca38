// Speed of the engine alone in tokens per second, measured like llama-bench: prefill of N tokens into an empty sequence, and
// decoding of N tokens one by one from an empty sequence, each after a separate warm-up. One line of JSON per run.
//
//   build/release/bench/celslm_bench_engine --model M.gguf --threads 2 --prefill 512 --decode 64
//
// --limits adds what the machine allows at most, measured in the same process, and the shares of it that were reached:
// products of the layers' matrices (attention not counted) over the dot-product instruction's peak, and bytes of weights
// that a token needs over what the threads can read from memory.
#include <algorithm>
#include <cstdio>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "bench/cpp/peak.h"
#include "bench/cpp/support.h"
#include "model/engine/engine.h"
#include "model/engine/model_impl.h"

namespace celslm {
namespace {

struct Options : DecodeOptions {
  int prefill = 512;
  int runs = 1;
  bool plain = false;
  bool limits = false;
  std::string panels;
};

class Bench {
 public:
  Bench(Engine& engine, KvType type, int capacity) : engine_(engine), type_(type), capacity_(capacity) {}

  Status prefill(int n) {
    start_empty();
    for (int done = 0; done < n; done += kPrefillStep) CELSLM_CHECK_OK(step(std::min(kPrefillStep, n - done)));
    return {};
  }

  // Returns the seconds that each token took.
  Result<std::vector<double>> decode(int n) {
    start_empty();
    std::vector<double> seconds;
    for (int i = 0; i < n; ++i) {
      const Stopwatch time;
      CELSLM_CHECK_OK(step(1));
      seconds.push_back(time.seconds());
    }
    return seconds;
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

// What a token needs of the weights.
struct TokenWork {
  double layer_products = 0;  // multiply-adds with the layers' matrices
  double bytes = 0;           // of all matrices that are read to decode it, the output head too
};

TokenWork token_work(const Model& model) {
  const Weights& weights = *model.impl().weights;
  TokenWork out;
  const auto add = [&out](const Linear& m) {
    out.bytes += m.packed != nullptr ? static_cast<double>(m.packed->size_bytes()) : static_cast<double>(ggml_nbytes(m.w));
  };
  for (const LayerWeights& layer : weights.layers) {
    for (const Linear* m : layer.linears()) {
      out.layer_products += static_cast<double>(m->w->ne[0]) * static_cast<double>(m->w->ne[1]);
      add(*m);
    }
    const double share = static_cast<double>(model.config().experts.n_used) / std::max(1, model.config().experts.n);
    for (const ggml_tensor* m : {layer.experts.gate, layer.experts.up, layer.experts.down}) {
      if (m == nullptr) continue;
      out.layer_products += share * static_cast<double>(ggml_nelements(m));
      out.bytes += share * static_cast<double>(ggml_nbytes(m));
    }
  }
  add(weights.output);
  return out;
}

void print_limits(const Model& model, const Options& options, double prefill_tps, double decode_tps) {
  const TokenWork work = token_work(model);
  const double products = peak_products_per_s(options.threads);
  const double bytes = memory_bytes_per_s(options.threads);
  std::printf(
      ", \"peak_products_per_s\": %.4g, \"memory_bytes_per_s\": %.4g, \"products_per_token\": %.4g, "
      "\"bytes_per_token\": %.4g, \"peak_share\": %.3f, \"bandwidth_share\": %.3f",
      products, bytes, work.layer_products, work.bytes, prefill_tps * work.layer_products / products,
      decode_tps * work.bytes / bytes);
}

// The value that `share` of all values do not exceed.
double quantile(std::vector<double> values, double share) {
  std::ranges::sort(values);
  return values[std::min(values.size() - 1, static_cast<std::size_t>(share * static_cast<double>(values.size())))];
}

Status measure(Bench& bench, const Model& model, const Options& options, double load_s) {
  CELSLM_CHECK_OK(bench.prefill(options.prefill));
  const Stopwatch prefilling;
  CELSLM_CHECK_OK(bench.prefill(options.prefill));
  const double prefill_tps = options.prefill / prefilling.seconds();
  CELSLM_CHECK_OK(bench.decode(1));
  const Stopwatch decoding;
  CELSLM_TRY(const std::vector<double> tokens, bench.decode(options.decode));
  const double decode_tps = options.decode / decoding.seconds();
  std::printf("{\"load_s\": %.3f, \"prefill_tps\": %.2f, \"decode_tps\": %.2f, \"token_p99\": %.3f, \"peak_mb\": %ld",
              load_s, prefill_tps, decode_tps, quantile(tokens, 0.99) / quantile(tokens, 0.5), peak_mb());
  if (options.limits) print_limits(model, options, prefill_tps, decode_tps);
  std::printf("}\n");
  return {};
}

Status run(const Options& options) {
  CELSLM_TRY(const KvType type, kv_type_from(options.kv));
  const Stopwatch loading;
  CELSLM_TRY(const auto model, Model::load(options.model, {.panel_folder = options.panels}));
  const double load_s = loading.seconds();
  CELSLM_TRY(const auto engine, Engine::create(model, {.n_threads = options.threads,
                                                       .kernels = options.plain ? KernelPath::kPlain : KernelPath::kFused}));
  Bench bench(*engine, type, std::max(options.prefill, options.decode));
  for (int i = 0; i < options.runs; ++i) CELSLM_CHECK_OK(measure(bench, *model, options, load_s));
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
  app.add_flag("--limits", options.limits, "also the machine's limits, and the shares of them that were reached");
  app.add_option("--panels", options.panels, "folder in which packed weights are kept between starts");
  app.add_flag("--plain", options.plain, "attention by ggml's own operators");
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_engine", celslm::run(options));
}
