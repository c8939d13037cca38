// The products with quantized weights alone, on one thread, beside what the machine can do: the same dot-product instruction
// on registers only, and reading memory. First a line of JSON with these limits, then one for each type: bytes of weights a
// product, and products a second with one, 16 and many tokens.
//
//   build/release/bench/celslm_bench_matrix --n-in 1536 --n-out 8960 --tokens 512
#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "bench/cpp/peak.h"
#include "bench/cpp/support.h"
#include "model/matrix/packed_matrix.h"

namespace celslm {
namespace {

struct Options {
  std::int64_t n_in = 1536;
  std::int64_t n_out = 8960;
  std::int64_t tokens = 512;
  int runs = 5;
};

constexpr std::int64_t kUsers = 16;

template <typename F>
double best_seconds(int runs, const F& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < runs; ++i) {
    const Stopwatch time;
    work();
    best = std::min(best, time.seconds());
  }
  return best;
}

constexpr std::pair<const char*, WeightType> kTypes[] = {
    {"Q4_0", WeightType::kQ40}, {"Q4_1", WeightType::kQ41},     {"Q5_0", WeightType::kQ50},    {"Q5_1", WeightType::kQ51},
    {"Q8_0", WeightType::kQ80}, {"IQ4_NL", WeightType::kIq4Nl}, {"MXFP4", WeightType::kMxfp4}, {"Q2_K", WeightType::kQ2K},
    {"Q3_K", WeightType::kQ3K}, {"Q4_K", WeightType::kQ4K},     {"Q5_K", WeightType::kQ5K},    {"Q6_K", WeightType::kQ6K}};

// Speed does not depend on the weights' values, as long as they are no denormal numbers.
Result<std::unique_ptr<PackedMatrix>> some_matrix(WeightType type, const Options& o) {
  const FileBlock unit = file_block(type);
  const Bytes file(static_cast<std::size_t>(o.n_in / unit.values * o.n_out) * unit.bytes, std::byte{0x35});
  return PackedMatrix::create(type, file, o.n_in, o.n_out);
}

Status measure(const char* name, const PackedMatrix& w, const std::vector<Q8Block>& x, const Options& o) {
  std::vector<float> out(static_cast<std::size_t>(o.n_out * std::max(o.tokens, kUsers)));
  const auto rate = [&](std::int64_t tokens, int runs) {
    const double seconds = best_seconds(runs, [&] { w.multiply(x.data(), tokens, out.data(), 0, 1); });
    return static_cast<double>(o.n_in * o.n_out * tokens) / seconds;
  };
  std::printf("{\"type\": \"%s\", \"bytes_per_weight\": %.4g, \"one\": %.4g, \"users\": %.4g, \"many\": %.4g}\n", name,
              static_cast<double>(w.size_bytes()) / static_cast<double>(o.n_in * o.n_out), rate(1, 4 * o.runs),
              rate(kUsers, o.runs), rate(o.tokens, o.runs));
  return {};
}

Status run(const Options& o) {
  std::printf("{\"peak_products_per_s\": %.4g, \"memory_bytes_per_s\": %.4g}\n", peak_products_per_s(1),
              memory_bytes_per_s(1));
  const std::vector<float> x(static_cast<std::size_t>(o.n_in * std::max(o.tokens, kUsers)), 0.5F);
  std::vector<Q8Block> blocks(x.size() / PackedMatrix::kBlock);
  q8_quantize(x.data(), o.n_in, std::max(o.tokens, kUsers), blocks.data(), 0, 1);
  for (const auto& [name, type] : kTypes) {
    CELSLM_TRY(const auto w, some_matrix(type, o));
    CELSLM_CHECK_OK(measure(name, *w, blocks, o));
  }
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::Options options;
  CLI::App app("Speed of products with quantized weights");
  app.add_option("--n-in", options.n_in, "columns of the matrix")->check(CLI::Range(256, 1 << 20));
  app.add_option("--n-out", options.n_out, "rows")->check(CLI::Range(1, 1 << 20));
  app.add_option("--tokens", options.tokens)->check(CLI::Range(1, 1 << 16));
  app.add_option("--runs", options.runs)->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_matrix", celslm::run(options));
}
