// Codecs on one full block of keys of Qwen2.5-0.5B's shape (2 KV heads of 64), one thread.
//
//   ./dev run build/release/bench/celslm_bench_codec
//
// bytes_per_second counts two bytes per value (f16) for every codec, so that codecs can be compared.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "core/hash.h"
#include "kv/codec/codec.h"

namespace celslm {
namespace {

BlockShape shape_of(const Codec& codec) {
  return {.n_tokens = codec.block_tokens(), .n_kv_heads = 2, .head_dim = 64};
}

// Rows with unequal variance along different directions, like those of a model: noise, summed along each row.
std::vector<float> block_values(const BlockShape& shape) {
  std::vector<float> out(shape.values());
  std::mt19937 random(1);
  std::normal_distribution<float> noise;
  float sum = 0.0F;
  for (std::size_t i = 0; i < out.size(); ++i) {
    sum = i % 64 == 0 ? 0.0F : 0.9F * sum;
    out[i] = sum += noise(random);
  }
  return out;
}

const Codec& codec_of(const benchmark::State& state) {
  return *all_codecs()[static_cast<std::size_t>(state.range(0))];
}

void count(benchmark::State& state) {
  state.SetLabel(std::string(codec_of(state).name()));
  state.SetBytesProcessed(
      static_cast<std::int64_t>(static_cast<std::size_t>(state.iterations()) * shape_of(codec_of(state)).values() * 2));
}

void Encode(benchmark::State& state) {
  const BlockShape shape = shape_of(codec_of(state));
  const auto values = block_values(shape);
  for (auto _ : state) benchmark::DoNotOptimize(codec_of(state).encode(shape, values));
  count(state);
}

void Decode(benchmark::State& state) {
  const BlockShape shape = shape_of(codec_of(state));
  auto values = block_values(shape);
  const auto bytes = codec_of(state).encode(shape, values);
  if (!bytes) return state.SkipWithError(bytes.error().message);
  for (auto _ : state) benchmark::DoNotOptimize(codec_of(state).decode(shape, *bytes, values));
  count(state);
}

// The check of a block's hash, which precedes decoding.
void Hash(benchmark::State& state) {
  const auto bytes = codec_of(state).encode(shape_of(codec_of(state)), block_values(shape_of(codec_of(state))));
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
