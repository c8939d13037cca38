#include "serve/batch/batch_runner.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "model/engine/final_norm.h"

namespace celslm {
namespace {

// How long a step waits for grammars, all together: most answer in a fraction of that, and would otherwise miss every other
// step.
constexpr Duration kGrammarPatience = std::chrono::milliseconds(2);

constexpr int kLeastShare = 16;  // tokens of prompts that a step takes at least: products of so few rows cost little

bool in_prompt(const Sequence& sequence) {
  return sequence.phase() == Sequence::Phase::kPrompt;
}

// Its prompt has to go layer by layer: the context is not complete yet, or was not when the step under way began; or all of
// its rows are asked for, not only the last one's logits.
bool is_loading(const Sequence& sequence) {
  if (!in_prompt(sequence)) return false;
  return sequence.needs_rows() || sequence.hidden.n_tokens > 0 ||
         (sequence.context() != nullptr && !sequence.context()->complete());
}

}  // namespace

BatchRunner::BatchRunner(Engine& engine, const Clock& clock, KvMemory& memory, const BatchOptions& options)
    : engine_(engine), clock_(clock), memory_(memory), options_(options), compute_(engine, clock, *options.memory) {}

bool BatchRunner::step(Sequences& running) {
  bool worked = end_choices(running);
  worked |= compute_contexts(running);
  worked |= advance_loading(running);
  worked |= run_batch(running);
  return worked;
}

bool BatchRunner::end_choices(const Sequences& running) {
  if (std::ranges::none_of(running, [](const auto& s) { return s->choosing(); })) return false;
  const TimePoint until = clock_.now() + kGrammarPatience;
  bool worked = false;
  for (const auto& sequence : running) {
    // A token that is refused is followed by one that is not: two questions.
    for (int question = 0; question < 2 && sequence->choosing(); ++question) {
      sequence->wait_for_choice(std::max(until - clock_.now(), Duration::zero()));
      const bool ended = sequence->end_choice(engine_.model().text(), clock_.now());
      worked |= ended;
      completion_tokens_ += ended ? 1 : 0;
    }
  }
  return worked;
}

bool BatchRunner::compute_contexts(Sequences& running) {
  for (const auto& sequence : running) {
    if (sequence->context()) compute_.add(sequence->context());
  }
  const ContextCompute::Step step = compute_.advance();
  for (const auto& sequence : running) {
    if (step.failed && sequence->context() == step.failed) sequence->fail(step.error);
  }
  return step.worked;
}

// As many rows as fit max_stall at the recent speed; everything at once while nobody would notice.
int BatchRunner::prompt_share(const Sequences& running) const {
  const bool noticed = compute_.busy() || std::ranges::any_of(running, [](const auto& s) { return !in_prompt(*s); });
  if (!noticed) return kPrefillStep;
  if (row_time_ == Duration{}) return 4 * kLeastShare;
  return static_cast<int>(std::clamp<std::int64_t>(options_.max_stall / row_time_, kLeastShare, kPrefillStep));
}

// Gives it its KV if it has none and need not wait.
bool BatchRunner::has_kv(Sequence& sequence, const Sequences& running) {
  if (sequence.has_kv()) return true;
  const Result<bool> allocated = memory_.allocate(sequence, running);
  if (!allocated) sequence.fail(allocated.error());
  return allocated.value_or(false);
}

// --- layer by layer, behind a context that is still loading -----------------------------------------------------------

bool BatchRunner::advance_loading(Sequences& running) {
  const int share = prompt_share(running);
  bool worked = false;
  for (const auto& sequence : running) {
    if (!is_loading(*sequence) || !has_kv(*sequence, running)) continue;
    const Result<bool> advanced = advance_layers(*sequence, share);
    if (!advanced) sequence->fail(advanced.error());
    worked |= advanced.value_or(true);
    if (worked && share < kPrefillStep) break;  // one request's share per step; the list rotates
  }
  if (worked) running.splice(running.end(), running, running.begin());
  return worked;
}

Result<bool> BatchRunner::advance_layers(Sequence& sequence, int share) {
  const int n_layers = engine_.model().config().n_layers;
  if (sequence.hidden.n_tokens == 0) {
    const auto rest = sequence.rest();
    const auto step = static_cast<std::size_t>(sequence.needs_rows() ? share : kPrefillStep);  // their logits cost, too
    CELSLM_TRY(sequence.hidden, engine_.embed(rest.first(std::min(rest.size(), step))));
    sequence.layer = 0;
  }
  const int ready = sequence.context() ? sequence.context()->ready_layers() : n_layers;
  const int affordable = sequence.layer + std::max(1, share * n_layers / sequence.hidden.n_tokens);
  const int last = std::min(ready, affordable);
  if (last <= sequence.layer) return false;

  const TimePoint before = clock_.now();
  if (sequence.context() && ready == n_layers) sequence.note_context_ready(before);
  const std::array chunk{sequence.chunk(sequence.hidden.n_tokens)};
  CELSLM_CHECK_OK(engine_.run_layers(sequence.layer, last, chunk, sequence.hidden));
  sequence.add_prefill(clock_.now() - before);
  sequence.layer = last;
  if (last == n_layers) CELSLM_CHECK_OK(end_layers(sequence));
  return true;
}

// A few rows' logits at a time: those of a complete step would take hundreds of megabytes.
Status BatchRunner::take_rows(Sequence& sequence, const Hidden& hidden) {
  const int first = sequence.done();
  if (sequence.request().embed) {
    CELSLM_TRY(const std::vector<float> normed, final_norm(engine_.model(), hidden));
    sequence.take_rows(normed, first, hidden.n_tokens);
    return {};
  }
  const auto n_vocab = static_cast<std::size_t>(engine_.model().config().n_vocab);
  for (int begin = 0; begin < hidden.n_tokens; begin += kLeastShare) {
    std::vector<int> rows(static_cast<std::size_t>(std::min(kLeastShare, hidden.n_tokens - begin)));
    std::iota(rows.begin(), rows.end(), begin);
    CELSLM_TRY(const std::span<const float> logits, engine_.logits(hidden, rows));
    for (std::size_t i = 0; i < rows.size(); ++i)
      sequence.take_row_logits(engine_.model().text(), logits.subspan(i * n_vocab, n_vocab), first + rows[i]);
  }
  return {};
}

Status BatchRunner::end_layers(Sequence& sequence) {
  const Hidden hidden = std::exchange(sequence.hidden, {});
  if (sequence.needs_rows()) CELSLM_CHECK_OK(take_rows(sequence, hidden));
  sequence.kv()->set_length(sequence.done() + hidden.n_tokens);
  std::span<const float> logits;
  if (sequence.rest().empty() && !sequence.request().embed) {
    CELSLM_TRY(logits, engine_.logits(hidden, std::array{hidden.n_tokens - 1}));
  }
  passed_layers(sequence, hidden.n_tokens, logits);
  return {};
}

// --- the batch --------------------------------------------------------------------------------------------------------

// Prompts that can go through all layers get equal shares; those served go to the end of the list.
void BatchRunner::add_prompts(Batch& batch, Sequences& running) {
  std::vector<Sequences::iterator> prompts;
  for (auto it = running.begin(); it != running.end(); ++it) {
    if (in_prompt(**it) && !is_loading(**it) && has_kv(**it, running)) prompts.push_back(it);
  }
  int left = prompt_share(running);
  const int share = std::max(kLeastShare, left / std::max(1, static_cast<int>(prompts.size())));
  for (const auto it : prompts) {
    if (left <= 0) break;
    Sequence& sequence = **it;
    if (sequence.context()) sequence.note_context_ready(clock_.now());
    const int n_tokens = std::min({share, left, static_cast<int>(sequence.rest().size())});
    batch.add(sequence, n_tokens);
    left -= n_tokens;
    running.splice(running.end(), running, it);
  }
}

void BatchRunner::Batch::add(Sequence& sequence, int n_tokens) {
  const auto rest = sequence.rest().first(static_cast<std::size_t>(n_tokens));
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  chunks.push_back(sequence.chunk(n_tokens));
  members.push_back(&sequence);
}

bool BatchRunner::run_batch(Sequences& running) {
  Batch batch;
  for (const auto& sequence : running) {
    if (sequence->phase() == Sequence::Phase::kAnswer && !sequence->choosing()) batch.add(*sequence, 1);
  }
  add_prompts(batch, running);
  if (batch.members.empty()) return false;

  const TimePoint before = clock_.now();
  const auto logits = engine_.forward(batch.tokens, batch.chunks);
  if (!logits) {
    for (Sequence* sequence : batch.members) sequence->fail(logits.error());
    return true;
  }
  const Duration per_row = (clock_.now() - before) / static_cast<int>(batch.tokens.size());
  if (batch.tokens.size() >= kLeastShare) row_time_ = row_time_ == Duration{} ? per_row : (3 * row_time_ + per_row) / 4;
  const auto n_vocab = static_cast<std::size_t>(engine_.model().config().n_vocab);
  for (std::size_t i = 0; i < batch.members.size(); ++i) {
    if (in_prompt(*batch.members[i])) batch.members[i]->add_prefill(per_row * batch.chunks[i].n_tokens);
    passed_layers(*batch.members[i], batch.chunks[i].n_tokens, logits->subspan(i * n_vocab, n_vocab));
  }
  return true;
}

// n_tokens have passed all layers. Where they were the last that are known, the next one is chosen from `logits`.
void BatchRunner::passed_layers(Sequence& sequence, int n_tokens, std::span<const float> logits) {
  if (in_prompt(sequence)) prompt_tokens_ += static_cast<std::uint64_t>(n_tokens);
  if (!sequence.rest().empty()) return;
  const TimePoint now = clock_.now();
  sequence.begin_answer(now);
  if (sequence.request().embed) return sequence.finish(FinishReason::kStop, now);
  sequence.accept(engine_.model().text(), logits, now);
  if (sequence.request().max_tokens > 0 && !sequence.choosing()) ++completion_tokens_;
}

}  // namespace celslm
