#include "cli/foreign_options.h"

#include <algorithm>

#include "model/llama/llama_model.h"

namespace celslm {
namespace {

constexpr int kLeastTokens = 8'192;  // for requests, and as many for contexts, where no budget is given
constexpr int kMostTokens = 32'768;  // the same
constexpr int kMostRows = 1 << 20;   // libllama keeps a table of them, also for models whose KV does not grow with tokens
constexpr int kMoreSequences = 64;   // beside running requests: contexts, those that are computed, kept prefixes

Status refuse(const char* option, const char* why) {
  return fail(ErrorKind::kInvalid, "{} is not possible with a model that libllama runs: {}", option, why);
}

}  // namespace

Status check_foreign(const EdgeCommand& command) {
  if (!command.tuning_file.empty()) return refuse("--tuning", "constants cannot be added to KV that it keeps");
  if (command.guidance.value_or(Guidance::kNone) != Guidance::kNone)
    return refuse("--guidance", "the KV of its contexts is its own");
  if (command.codec.name != "auto") return refuse("--codec", "states travel as libllama writes them");
  if (command.options.batch.kv_type != KvType::kF16) return refuse("--context-kv", "its KV is f16");
  return {};
}

ForeignMemory foreign_memory(const EdgeCommand& command, const Model& model, EdgeOptions& options) {
  const LlamaModel& llama = *model.foreign();
  const int n_tokens = std::clamp(model.config().n_ctx_train, kLeastTokens, kMostTokens);
  const std::uint64_t enough = KvSegment::resident_bytes(model.config(), KvType::kF16, n_tokens);
  if (command.options.batch.kv_budget_bytes == 0)
    options.batch.kv_budget_bytes = std::min(options.batch.kv_budget_bytes, enough);
  if (command.options.context_budget_bytes == 0)
    options.context_budget_bytes = std::min(options.context_budget_bytes, enough);

  const std::uint64_t bytes = options.batch.kv_budget_bytes + options.context_budget_bytes;
  const std::uint64_t token = std::max<std::uint64_t>(1, llama.token_bytes());
  ForeignMemory out;
  out.limits.n_tokens = static_cast<int>(std::clamp<std::uint64_t>(bytes / token, 512, kMostRows));
  out.limits.n_sequences = options.batch.max_running + kMoreSequences;
  if (const std::uint64_t sequence = llama.sequence_bytes(); sequence > 0) {  // states of their own: so many fit
    const auto fit = static_cast<int>(std::min<std::uint64_t>(bytes / sequence, 1024));
    out.limits.n_sequences = std::clamp(fit, 4, out.limits.n_sequences);
  }
  out.limits.n_sequences = std::min(out.limits.n_sequences, kMostLlamaSequences);
  options.batch.max_running = std::min(options.batch.max_running, std::max(1, out.limits.n_sequences / 2));
  // What requests leave is for contexts and prefixes; one is for a context that is computed beside those that are held.
  const int left = out.limits.n_sequences - options.batch.max_running;
  options.batch.max_kept_prefixes = std::min<std::size_t>(options.batch.max_kept_prefixes, left / 4);
  options.max_contexts = std::max<std::size_t>(1, left / 2);
  out.kv_bytes = token * static_cast<std::uint64_t>(out.limits.n_tokens);
  return out;
}

}  // namespace celslm
