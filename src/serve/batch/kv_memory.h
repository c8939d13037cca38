// Memory for the KV of requests: the budget that it has to fit, and the KV of earlier requests that new ones begin with.
#pragma once

#include <cstdint>
#include <list>
#include <memory>

#include "core/result.h"
#include "model/engine/engine.h"
#include "serve/batch/batch_options.h"
#include "serve/batch/prefix_cache.h"
#include "serve/batch/sequence.h"

namespace celslm {

using Sequences = std::list<std::unique_ptr<Sequence>>;

// What n_tokens of a request's own KV count for. Constant for a request, and may be called from any thread.
std::uint64_t own_kv_bytes(const ModelConfig& config, const BatchOptions& options, const Sequence& sequence, int n_tokens);

// A request's KV counts for what is written of it, although its address space is reserved for all it may grow to. It is in
// the account "requests" of options.memory. Used by the loop's thread alone; `config` and `clock` must outlive this.
class KvMemory {
 public:
  KvMemory(const ModelConfig& config, const Clock& clock, const BatchOptions& options);

  std::uint64_t bytes_of(const Sequence& sequence, int n_tokens) const;
  std::uint64_t bytes_of(const Sequences& running) const;
  std::uint64_t kept_bytes() const { return prefixes_.bytes(); }
  std::uint64_t reused_tokens() const { return reused_tokens_; }  // so far

  // Whether `bytes` more fit budget and ledger beside what runs; then they are taken until the next call. Evicts kept
  // prefixes, and for the ledger's sake contexts that nobody uses.
  bool make_room(const Sequences& running, std::uint64_t bytes);
  // Gives a sequence its KV, with the longest beginning of its tokens copied that a running request or a kept prefix has.
  // False if it should wait, because an earlier request is computing more of that beginning.
  Result<bool> allocate(Sequence& sequence, const Sequences& running);
  // Keeps the KV of a sequence that has ended, for requests that continue it.
  void keep(const Sequence& sequence);
  void drop_kept() { prefixes_.shrink_to(0); }
  // Whether a request that fits the budget did not fit the ledger when make_room() last returned false.
  bool ledger_is_full() const { return ledger_is_full_; }

 private:
  void leave_for_longer(Sequence& sequence);
  PrefixCache::Match reusable(const Sequence& sequence, const Sequences& running);
  bool may_copy(const Sequence& to, const Sequence& from) const;
  bool should_wait(const Sequence& sequence, const Sequences& running, int reusable_now) const;

  bool take(std::uint64_t bytes);
  std::shared_ptr<KvSegment> compact(const Sequence& sequence) const;

  const ModelConfig& config_;
  const BatchOptions options_;
  MemoryLease lease_;
  PrefixCache prefixes_;
  const std::unique_ptr<MemoryLedger::Registration> reclaimer_;  // uses prefixes_
  bool ledger_is_full_ = false;
  std::uint64_t reused_tokens_ = 0;
};

}  // namespace celslm
