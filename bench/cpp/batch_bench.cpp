// Decoding speed of many users on one shared context, in tokens per second, measured like llama-batched-bench -pps: every
// user decodes N tokens behind the same context, all users in one batch per step. One line of JSON per case. The context's
// KV is random, because the cost of attention does not depend on the values.
//
//   build/release/bench/celslm_bench_batch --model M.gguf --threads 2 --users 32 --context 2048 --decode 32
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "bench/cpp/support.h"
#include "model/engine/engine.h"

namespace celslm {
namespace {

using Clock = std::chrono::steady_clock;

struct Options : DecodeOptions {
  std::vector<int> users = {32};
  std::vector<int> context = {2048};
};

Result<std::shared_ptr<KvSegment>> random_context(const Model& model, KvType type, int n_tokens) {
  const ModelConfig& config = model.config();
  CELSLM_TRY(auto segment, KvSegment::create(config, type, 0, n_tokens));
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> row(static_cast<std::size_t>(config.kv_width()));
  for (int layer = 0; layer < config.n_layers; ++layer) {
    for (float& value : row) value = normal(random);
    for (int token = 0; token < n_tokens; ++token) {
      std::rotate(row.begin(), row.begin() + 1, row.end());
      CELSLM_CHECK_OK(Engine::import_rows(model, *segment, layer, token, 1, row, row));
    }
  }
  segment->set_length(n_tokens);
  return segment;
}

// An empty suffix for each user, behind the shared context (null: none).
Result<std::vector<SequenceChunk>> start(const Model& model, KvType type, std::shared_ptr<KvSegment> context, int users,
                                         int capacity) {
  std::vector<SequenceChunk> batch;
  for (int i = 0; i < users; ++i) {
    CELSLM_TRY(auto own, KvSegment::create(model.config(), type, context ? context->length() : 0, capacity));
    batch.push_back({.context = context, .own = std::move(own), .n_tokens = 1});
  }
  return batch;
}

Status step(Engine& engine, std::vector<SequenceChunk>& batch, std::mt19937& random) {
  std::uniform_int_distribution<Token> any(0, engine.model().config().n_vocab - 1);
  std::vector<Token> tokens(batch.size());
  for (Token& token : tokens) token = any(random);
  for (SequenceChunk& chunk : batch) chunk.own_length = chunk.own->length();
  return engine.forward(tokens, batch).transform([](const auto&) {});
}

Status measure(Engine& engine, KvType type, std::shared_ptr<KvSegment> context, int users, const Options& options) {
  std::mt19937 random(2);
  const int n_context = context ? context->length() : 0;
  CELSLM_TRY(auto batch, start(engine.model(), type, std::move(context), users, options.decode + 1));
  CELSLM_CHECK_OK(step(engine, batch, random));  // warm-up: builds the graph and touches all memory
  const auto began = Clock::now();
  for (int i = 0; i < options.decode; ++i) CELSLM_CHECK_OK(step(engine, batch, random));
  const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
  std::printf("{\"users\": %d, \"context_tokens\": %d, \"tps\": %.2f, \"peak_mb\": %ld}\n", users, n_context,
              users * options.decode / seconds, peak_mb());
  std::fflush(stdout);
  return {};
}

Status run(const Options& options) {
  CELSLM_TRY(const KvType type, kv_type_from(options.kv));
  CELSLM_TRY(const auto model, Model::load(options.model));
  CELSLM_TRY(const auto engine, Engine::create(model, {.n_threads = options.threads}));
  for (const int n_tokens : options.context) {
    std::shared_ptr<KvSegment> context;
    if (n_tokens > 0) {
      CELSLM_TRY(context, random_context(*model, type, n_tokens));
    }
    for (const int users : options.users) CELSLM_CHECK_OK(measure(*engine, type, context, users, options));
  }
  return {};
}

}  // namespace
}  // namespace celslm

int main(int argc, char** argv) {
  celslm::Options options;
  options.decode = 32;
  CLI::App app("Decode speed of many users on one shared context");
  celslm::add_decode_options(app, options);
  app.add_option("--users", options.users, "one or more")->delimiter(',')->check(CLI::Range(1, 4096));
  app.add_option("--context", options.context, "tokens, one or more; 0: none")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 20));
  CLI11_PARSE(app, argc, argv);
  return celslm::exit_code("celslm_bench_batch", celslm::run(options));
}
