// What a step of the batch loop computes.
#include <algorithm>
#include <array>
#include <numeric>

#include "serve/batch/batch_loop.h"

namespace celslm {
namespace {

constexpr int kLeastShare = 16;  // tokens of prompts that a step takes at least: products of so few rows cost little

bool in_prompt(const Sequence& sequence) {
  return sequence.phase() == Sequence::Phase::kPrompt;
}

// Its prompt has to go layer by layer: the context is not whole yet, or was not when the step under way began.
bool is_waiting(const Sequence& sequence) {
  if (!in_prompt(sequence)) return false;
  return sequence.hidden.n_tokens > 0 || (sequence.context() != nullptr && !sequence.context()->complete());
}

}  // namespace

bool BatchLoop::compute_contexts() {
  for (const auto& sequence : running_) {
    if (!sequence->context()) continue;
    if (const Status taken = compute_.take_up(sequence->context()); !taken) fail_sequence(*sequence, taken.error());
  }
  const ContextCompute::Step step = compute_.advance();
  for (const auto& sequence : running_) {
    if (step.failed && sequence->context() == step.failed) fail_sequence(*sequence, step.error);
  }
  return step.worked;
}

// As many rows as fit max_stall at the speed of late; everything at once while nobody would notice.
int BatchLoop::prompt_share() const {
  const bool noticed = compute_.busy() || std::ranges::any_of(running_, [](const auto& s) { return !in_prompt(*s); });
  if (!noticed) return kPrefillStep;
  if (row_time_ == Duration{}) return 4 * kLeastShare;
  return static_cast<int>(std::clamp<std::int64_t>(options_.max_stall / row_time_, kLeastShare, kPrefillStep));
}

// --- beginning a prompt -----------------------------------------------------------------------------------------------

// The longest beginning of the sequence's tokens whose KV somebody has: a running request or a kept conversation. One token
// is always left to compute, for its logits.
PrefixCache::Match BatchLoop::reusable(const Sequence& sequence) {
  if (!options_.reuse_prefixes) return {};
  const std::span<const Token> wanted = sequence.tokens().first(sequence.tokens().size() - 1);
  PrefixCache::Match best = prefixes_.find(sequence.context(), wanted);
  for (const auto& other : running_) {
    if (other.get() == &sequence || other->context() != sequence.context() || !other->has_kv()) continue;
    const int n = common_prefix(other->tokens().first(static_cast<std::size_t>(other->done())), wanted);
    if (n > best.n_tokens) best = {other->kv(), n};
  }
  return best;
}

// Whether an earlier request is computing what this one could copy.
bool BatchLoop::should_wait(const Sequence& sequence, int reusable_now) const {
  if (!options_.reuse_prefixes) return false;
  return std::ranges::any_of(running_, [&](const auto& other) {
    return other->number() < sequence.number() && in_prompt(*other) && other->context() == sequence.context() &&
           common_prefix(other->tokens(), sequence.tokens()) >= reusable_now + kMinPrefix;
  });
}

// Gives the sequence its KV, with what can be copied in it. False while it had better wait.
Result<bool> BatchLoop::start(Sequence& sequence) {
  const PrefixCache::Match match = reusable(sequence);
  if (should_wait(sequence, match.n_tokens)) return false;
  CELSLM_TRY(auto own,
             KvSegment::create(engine_->model().config(), own_type(sequence), sequence.n_context(), sequence.most_tokens()));
  if (match.n_tokens >= kMinPrefix) {
    own->copy_from(*match.segment, match.n_tokens);
    sequence.count_reused(match.n_tokens);
    counted_.reused_tokens += static_cast<std::uint64_t>(match.n_tokens);
  }
  sequence.give_kv(std::move(own));
  return true;
}

bool BatchLoop::is_started(Sequence& sequence) {
  if (sequence.has_kv()) return true;
  const Result<bool> started = start(sequence);
  if (!started) fail_sequence(sequence, started.error());
  return started.value_or(false);
}

// --- layer by layer, behind a context that is on its way --------------------------------------------------------------

bool BatchLoop::advance_waiting() {
  const int share = prompt_share();
  bool worked = false;
  for (const auto& sequence : running_) {
    if (!is_waiting(*sequence) || !is_started(*sequence)) continue;
    const Result<bool> advanced = advance_layers(*sequence, share);
    if (!advanced) fail_sequence(*sequence, advanced.error());
    worked |= advanced.value_or(true);
    if (worked && share < kPrefillStep) break;  // one request's share per step; the list rotates
  }
  if (worked) running_.splice(running_.end(), running_, running_.begin());
  return worked;
}

Result<bool> BatchLoop::advance_layers(Sequence& sequence, int share) {
  const int n_layers = engine_->model().config().n_layers;
  if (sequence.hidden.n_tokens == 0) {
    const auto rest = sequence.rest();
    CELSLM_TRY(sequence.hidden, engine_->embed(rest.first(std::min(rest.size(), std::size_t{kPrefillStep}))));
    sequence.layer = 0;
  }
  const int ready = sequence.context()->ready_layers();
  const int affordable = sequence.layer + std::max(1, share * n_layers / sequence.hidden.n_tokens);
  const int last = std::min(ready, affordable);
  if (last <= sequence.layer) return false;

  const TimePoint before = clock_.now();
  if (ready == n_layers) sequence.note_context_ready(before);
  const std::array chunk{sequence.chunk(sequence.hidden.n_tokens)};
  CELSLM_CHECK_OK(engine_->run_layers(sequence.layer, last, chunk, sequence.hidden));
  sequence.add_prefill(clock_.now() - before);
  sequence.layer = last;
  if (last == n_layers) CELSLM_CHECK_OK(end_layers(sequence));
  return true;
}

Status BatchLoop::end_layers(Sequence& sequence) {
  const Hidden hidden = std::exchange(sequence.hidden, {});
  sequence.kv()->set_length(sequence.done() + hidden.n_tokens);
  std::span<const float> logits;
  if (sequence.rest().empty()) {
    CELSLM_TRY(logits, engine_->logits(hidden, std::array{hidden.n_tokens - 1}));
  }
  passed(sequence, hidden.n_tokens, logits);
  return {};
}

// --- the batch --------------------------------------------------------------------------------------------------------

// Prompts that can go through all layers get equal shares; those served go to the end of the list.
void BatchLoop::add_prompts(Batch& batch) {
  std::vector<Sequences::iterator> prompts;
  for (auto it = running_.begin(); it != running_.end(); ++it) {
    if (in_prompt(**it) && !is_waiting(**it) && is_started(**it)) prompts.push_back(it);
  }
  int left = prompt_share();
  const int share = std::max(kLeastShare, left / std::max(1, static_cast<int>(prompts.size())));
  for (const auto it : prompts) {
    if (left <= 0) break;
    Sequence& sequence = **it;
    if (sequence.context()) sequence.note_context_ready(clock_.now());
    const int n_tokens = std::min({share, left, static_cast<int>(sequence.rest().size())});
    batch.add(sequence, n_tokens);
    left -= n_tokens;
    running_.splice(running_.end(), running_, it);
  }
}

void BatchLoop::Batch::add(Sequence& sequence, int n_tokens) {
  const auto rest = sequence.rest().first(static_cast<std::size_t>(n_tokens));
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  chunks.push_back(sequence.chunk(n_tokens));
  members.push_back(&sequence);
}

bool BatchLoop::run_batch() {
  Batch batch;
  for (const auto& sequence : running_) {
    if (sequence->phase() == Sequence::Phase::kAnswer) batch.add(*sequence, 1);
  }
  add_prompts(batch);
  if (batch.members.empty()) return false;

  const TimePoint before = clock_.now();
  const auto logits = engine_->forward(batch.tokens, batch.chunks);
  if (!logits) {
    for (Sequence* sequence : batch.members) fail_sequence(*sequence, logits.error());
    return true;
  }
  const Duration per_row = (clock_.now() - before) / static_cast<int>(batch.tokens.size());
  if (batch.tokens.size() >= kLeastShare) row_time_ = row_time_ == Duration{} ? per_row : (3 * row_time_ + per_row) / 4;
  const auto n_vocab = static_cast<std::size_t>(engine_->model().config().n_vocab);
  for (std::size_t i = 0; i < batch.members.size(); ++i) {
    if (in_prompt(*batch.members[i])) batch.members[i]->add_prefill(per_row * batch.chunks[i].n_tokens);
    passed(*batch.members[i], batch.chunks[i].n_tokens, logits->subspan(i * n_vocab, n_vocab));
  }
  return true;
}

// n_tokens have passed all layers. Where they were the last that are known, the next one is chosen from `logits`.
void BatchLoop::passed(Sequence& sequence, int n_tokens, std::span<const float> logits) {
  if (in_prompt(sequence)) counted_.prompt_tokens += static_cast<std::uint64_t>(n_tokens);
  if (!sequence.rest().empty()) return;
  const TimePoint now = clock_.now();
  sequence.begin_answer(now);
  sequence.accept(engine_->model().text(), logits, now);
  ++counted_.completion_tokens;
  counted_.finished += sequence.phase() == Sequence::Phase::kEnded ? 1 : 0;
}

}  // namespace celslm
