// The products with quantized weights alone, on one thread, beside what the machine can do: the same dot-product instruction
// on registers only, and reading memory. One line of JSON a type.
//
//   build/release/bench/celslm_bench_matrix --n-in 1536 --n-out 8960 --tokens 512
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "bench/cpp/peak.h"
#include "bench/cpp/support.h"
#include "model/matrix/packed_matrix.h"

namespace celslm {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::int64_t n_in = 1536;
  std::int64_t n_out = 8960;
  std::int64_t tokens = 512;
  int runs = 5;
};

template <typename F>
double best_seconds(int runs, const F& work) {
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const auto start = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

constexpr std::pair<const char*, WeightType> kTypes[] = {
    {"Q4_0", WeightType::kQ4_0}, {"Q4_1", WeightType::kQ4_1},    {"Q5_0", WeightType::kQ5_0},   {"Q5_1", WeightType::kQ5_1},
    {"Q8_0", WeightType::kQ8_0}, {"IQ4_NL", WeightType::kIq4Nl}, {"MXFP4", WeightType::kMxfp4}, {"Q2_K", WeightType::kQ2K},
    {"Q3_K", WeightType::kQ3K},  {"Q4_K", WeightType::kQ4K},     {"Q5_K", WeightType::kQ5K},    {"Q6_K", WeightType::kQ6K}};

Status run(const Options& o) {
  const double peak = peak_products_per_s();
  std::vector<float> x(static_cast<std::size_t>(o.n_in * std::max<std::int64_t>(o.tokens, 16)), 0.5F);
  std::vector<Q8Block> blocks(x.size() / 32);
  q8_quantize(x.data(), o.n_in, std::max<std::int64_t>(o.tokens, 16), blocks.data(), 0, 1);
  std::vector<float> out(static_cast<std::size_t>(o.n_out * std::max<std::int64_t>(o.tokens, 16)));
  for (const auto& [name, type] : kTypes) {
    const FileBlock unit = file_block(type);
    const Bytes file(static_cast<std::size_t>(o.n_in / unit.values * o.n_out) * unit.bytes);
    CELSLM_TRY(const auto w, PackedMatrix::create(type, file, o.n_in, o.n_out));
    const double products = static_cast<double>(o.n_in) * static_cast<double>(o.n_out);
    const double many = best_seconds(o.runs, [&] { w->multiply(blocks.data(), o.tokens, out.data(), 0, 1); });
    const double one = best_seconds(o.runs * 4, [&] { w->multiply(blocks.data(), 1, out.data(), 0, 1); });
    const double several = best_seconds(o.runs, [&] { w->multiply(blocks.data(), 16, out.data(), 0, 1); });
    std::printf(
        "{\"type\": \"%s\", \"products_per_s\": %.4g, \"peak_share\": %.3f, \"share_16\": %.3f, \"one_token_bytes_per_s\": "
        "%.4g, \"one_products\": %.4g}\n",
        name, products * static_cast<double>(o.tokens) / many, products * static_cast<double>(o.tokens) / many / peak,
        products * 16 / several / peak, static_cast<double>(w->size_bytes()) / one, products / one);
  }
  std::printf("{\"peak_products_per_s\": %.4g}\n", peak);
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::Options options;
  CLI::App app("Speed of products with quantized weights");
  app.add_option("--n-in", options.n_in);
  app.add_option("--n-out", options.n_out);
  app.add_option("--tokens", options.tokens);
  app.add_option("--runs", options.runs);
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_matrix", celslm::run(options));
}
