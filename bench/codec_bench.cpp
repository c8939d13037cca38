// Codecs on one block of Qwen2.5-0.5B's shape (256 tokens, 2 KV heads of 64), one thread.
//
//   ./dev run build/bench/bench/celslm_bench_codec
//
// bytes_per_second counts the block as f16, two bytes a value, for every codec, so that the codecs compare.
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "core/hash.h"
#include "kv/codec.h"
#include "kv/pack.h"

namespace celslm {
namespace {

constexpr BlockShape kShape{.n_tokens = kBlockTokens, .n_kv_heads = 2, .head_dim = 64};

std::vector<float> block_values() {
  std::vector<float> out(kShape.values());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = 4.0F * std::sin(static_cast<float>(i) * 0.7F);
  return out;
}

const Codec& codec_of(const benchmark::State& state) {
  return *all_codecs()[static_cast<std::size_t>(state.range(0))];
}

void count(benchmark::State& state) {
  state.SetLabel(std::string(codec_of(state).name()));
  state.SetBytesProcessed(static_cast<std::int64_t>(static_cast<std::size_t>(state.iterations()) * kShape.values() * 2));
}

void Encode(benchmark::State& state) {
  const auto values = block_values();
  for (auto _ : state) benchmark::DoNotOptimize(codec_of(state).encode(kShape, values));
  count(state);
}

void Decode(benchmark::State& state) {
  auto values = block_values();
  const auto bytes = codec_of(state).encode(kShape, values);
  if (!bytes) return state.SkipWithError(bytes.error().message);
  for (auto _ : state) benchmark::DoNotOptimize(codec_of(state).decode(kShape, *bytes, values));
  count(state);
}

// What comes before decoding: the check of a block's hash.
void Hash(benchmark::State& state) {
  const auto bytes = codec_of(state).encode(kShape, block_values());
  if (!bytes) return state.SkipWithError(bytes.error().message);
  for (auto _ : state) benchmark::DoNotOptimize(hash_of(*bytes));
  count(state);
}

int last_codec() {
  return static_cast<int>(all_codecs().size()) - 1;
}

BENCHMARK(Encode)->DenseRange(0, last_codec());
BENCHMARK(Decode)->DenseRange(0, last_codec());
BENCHMARK(Hash)->DenseRange(0, last_codec());

}  // namespace
}  // namespace celslm
