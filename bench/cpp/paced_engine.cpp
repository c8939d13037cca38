#include "bench/cpp/paced_engine.h"

#include <thread>

namespace celslm {
namespace {

using Clock = std::chrono::steady_clock;

void sleep_until(Clock::time_point began, std::chrono::duration<double> passed) {
  std::this_thread::sleep_until(began + std::chrono::duration_cast<Clock::duration>(passed));
}

}  // namespace

std::chrono::duration<double> PacedEngine::pass_time(std::span<const SequenceChunk> batch) const {
  int prompt_tokens = 0;
  int answers = 0;
  for (const SequenceChunk& chunk : batch) (chunk.n_tokens == 1 ? answers : prompt_tokens) += chunk.n_tokens;
  const double decode_s = answers > 0 ? timings_.decode_base_s + timings_.decode_per_user_s * answers : 0;
  return std::chrono::duration<double>(prompt_tokens / timings_.prefill_tokens_per_s + decode_s);
}

Status PacedEngine::run_layers(int first, int last, std::span<const SequenceChunk> batch, Hidden& hidden, const KvTap& tap) {
  const auto began = Clock::now();
  const Status computed = Engine::run_layers(first, last, batch, hidden, tap);
  if (computed) sleep_until(began, pass_time(batch) * (last - first) / model().config().n_layers);
  return computed;
}

Result<std::span<const float>> PacedEngine::forward(std::span<const Token> tokens, std::span<const SequenceChunk> batch) {
  const auto began = Clock::now();
  auto logits = Engine::forward(tokens, batch);
  if (logits) sleep_until(began, pass_time(batch));
  return logits;
}

}  // namespace celslm
