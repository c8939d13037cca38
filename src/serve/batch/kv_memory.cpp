#include "serve/batch/kv_memory.h"

#include <algorithm>

namespace celslm {
namespace {

KvType own_type(const BatchOptions& options, const Sequence& sequence) {
  const KvType type = sequence.context() ? sequence.context()->segment->type() : options.kv_type;
  return type == KvType::kQ8 ? KvType::kF16 : type;
}

PrefixCache::Place place_of(const Sequence& sequence) {
  return {.context = sequence.context(), .n_context = sequence.n_context(), .owner = sequence.owner()};
}

bool same_place(const Sequence& a, const Sequence& b) {
  return a.context() == b.context() && a.n_context() == b.n_context() && a.owner() == b.owner();
}

}  // namespace

std::uint64_t own_kv_bytes(const ModelConfig& config, const BatchOptions& options, const Sequence& sequence, int n_tokens) {
  return KvSegment::resident_bytes(config, own_type(options, sequence), n_tokens);
}

KvMemory::KvMemory(const ModelConfig& config, const Clock& clock, const BatchOptions& options)
    : config_(config),
      options_(options),
      lease_(options.memory->note("requests", 0)),
      prefixes_(clock, *options.memory, {.most = options.max_kept_prefixes, .max_age = options.max_kept_age}),
      reclaimer_(options.memory->add_reclaimer(kReclaimPrefixes, [this](std::uint64_t bytes) { prefixes_.free(bytes); })) {}

std::uint64_t KvMemory::bytes_of(const Sequence& sequence, int n_tokens) const {
  return own_kv_bytes(config_, options_, sequence, n_tokens);
}

std::uint64_t KvMemory::bytes_of(const Sequences& running) const {
  std::uint64_t sum = 0;
  for (const auto& sequence : running) sum += bytes_of(*sequence, static_cast<int>(sequence->tokens().size()));
  return sum;
}

bool KvMemory::make_room(const Sequences& running, std::uint64_t bytes) {
  const std::uint64_t taken = bytes_of(running) + bytes;
  prefixes_.shrink_to(taken < options_.kv_budget_bytes ? options_.kv_budget_bytes - taken : 0);
  const bool in_budget = taken <= options_.kv_budget_bytes;
  const bool taken_from_ledger = in_budget && take(taken);
  ledger_is_full_ = in_budget && !taken_from_ledger;
  // What runs is there, however full the box: the caller ends some of it.
  if (!taken_from_ledger) lease_.resize_over_limit(taken - bytes);
  return taken_from_ledger;
}

bool KvMemory::take(std::uint64_t bytes) {
  if (lease_.resize(bytes)) return true;
  options_.memory->make_room(bytes - lease_.bytes());
  return lease_.resize(bytes).has_value();
}

// Texts of one answer share their prompt's KV in any case: both rows are a prefill's, so nothing differs by rounding.
bool KvMemory::may_copy(const Sequence& to, const Sequence& from) const {
  return same_place(to, from) && (options_.reuse_prefixes || to.same_answer(from));
}

// One token is always left to compute, for its logits.
PrefixCache::Match KvMemory::reusable(const Sequence& sequence, const Sequences& running) {
  if (sequence.needs_rows()) return {};
  const std::span<const Token> wanted = sequence.tokens().first(sequence.tokens().size() - 1);
  PrefixCache::Match best;
  if (options_.reuse_prefixes) best = prefixes_.find(place_of(sequence), wanted);
  for (const auto& other : running) {
    if (other.get() == &sequence || !may_copy(sequence, *other) || !other->has_kv()) continue;
    const int common = common_prefix(other->tokens().first(static_cast<std::size_t>(other->done())), wanted);
    const int n = other->kv()->copyable(common);
    if (n > best.n_tokens) best = {other->kv(), n};
  }
  return best;
}

// Where the request begins with part of a context only by chance, an earlier request of the same owner may have more of it.
void KvMemory::leave_for_longer(Sequence& sequence) {
  if (!options_.reuse_prefixes || !sequence.context() || !sequence.request().context_is_optional) return;
  const auto& in_context = sequence.context()->tokens;
  std::vector<Token> all(in_context.begin(), in_context.begin() + sequence.n_context());
  all.insert(all.end(), sequence.tokens().begin(), sequence.tokens().end() - 1);
  const int behind = prefixes_.find(place_of(sequence), sequence.tokens().first(sequence.tokens().size() - 1)).n_tokens;
  const int alone = prefixes_.find({.owner = sequence.owner()}, all).n_tokens;
  if (alone > sequence.n_context() + behind) sequence.leave_context();
}

// With states it would wait in vain: when the other has computed more, it is past what both begin with.
bool KvMemory::should_wait(const Sequence& sequence, const Sequences& running, int reusable_now) const {
  if (sequence.needs_rows() || config_.has_states()) return false;
  return std::ranges::any_of(running, [&](const auto& other) {
    return other->number() < sequence.number() && other->phase() == Sequence::Phase::kPrompt && may_copy(sequence, *other) &&
           common_prefix(other->tokens(), sequence.tokens()) >= reusable_now + kMinPrefix;
  });
}

Result<bool> KvMemory::allocate(Sequence& sequence, const Sequences& running) {
  leave_for_longer(sequence);
  const PrefixCache::Match match = reusable(sequence, running);
  if (should_wait(sequence, running, match.n_tokens)) return false;
  CELSLM_TRY(auto own,
             KvSegment::create(config_, own_type(options_, sequence), sequence.n_context(), sequence.most_tokens()));
  if (match.n_tokens >= kMinPrefix) {
    own->copy_from(*match.segment, match.n_tokens);
    sequence.count_reused(own->length());
    reused_tokens_ += static_cast<std::uint64_t>(own->length());
  }
  sequence.give_kv(std::move(own));
  return true;
}

void KvMemory::keep(const Sequence& sequence) {
  if (!options_.reuse_prefixes || !sequence.has_kv() || sequence.done() < kMinPrefix) return;
  if (sequence.kv()->copyable(sequence.done()) == 0) return;
  const std::span<const Token> tokens = sequence.tokens().first(static_cast<std::size_t>(sequence.done()));
  std::shared_ptr<const KvSegment> kept = sequence.kv();
  std::uint64_t bytes = bytes_of(sequence, sequence.done());
  if (auto small = compact(sequence)) {
    bytes = small->size_bytes();
    kept = std::move(small);
  }
  prefixes_.keep(place_of(sequence), {tokens.begin(), tokens.end()}, std::move(kept), bytes);
}

// Rows lie by heads, each with room for all that a request may grow to: of a short one, most of the pages in use are empty.
// Null where little would be gained, or a copy would take long.
std::shared_ptr<KvSegment> KvMemory::compact(const Sequence& sequence) const {
  constexpr std::uint64_t kMostCopied = 16ULL << 20;
  auto out = KvSegment::create(config_, sequence.kv()->type(), sequence.n_context(), sequence.done());
  if (!out || (*out)->size_bytes() > kMostCopied || (*out)->size_bytes() * 5 / 4 > bytes_of(sequence, sequence.done()))
    return nullptr;
  (*out)->copy_from(*sequence.kv(), sequence.done());
  return *std::move(out);
}

}  // namespace celslm
