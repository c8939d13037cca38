// The one thread that runs an edge's engine: requests join and leave the running batch at every step.
//
// A step does a bounded amount of each kind of work, so that nobody waits for somebody else's long prompt:
//   1. one unit (a layer's step) of one context that has to be computed here,
//   2. for requests whose context is still on its way: their prompt through the layers that are there,
//   3. one batch: a token for every request that is answering, and a share of the prompts of those that are about to.
// How many tokens of prompts go into a step is found by measuring: as many as keep it within options.max_stall.
//
// Memory: each request's own KV counts for what is written of it. A request is taken up when its prompt fits the budget; KV
// of ended conversations, kept for requests that continue them, gives way first. When answers outgrow the budget, the
// request that came last gives its KV back and is computed again later.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/result.h"
#include "model/engine/engine.h"
#include "serve/batch/context_compute.h"
#include "serve/batch/generation.h"
#include "serve/batch/prefix_cache.h"
#include "serve/batch/sequence.h"

namespace celslm {

struct BatchOptions {
  int max_running = 32;                        // requests in the batch
  int max_queued = 128;                        // beyond these, submit() says kOverloaded
  KvType kv_type = KvType::kF16;               // of requests without a context; others take their context's (f16 behind q8)
  std::uint64_t kv_budget_bytes = 2ULL << 30;  // of requests' own KV, kept prefixes included
  bool reuse_prefixes = true;
  std::chrono::milliseconds max_stall{100};  // what a step may take while somebody is answering
};

struct BatchStats {
  std::uint64_t steps = 0;
  std::uint64_t prompt_tokens = 0;  // computed; of them
  std::uint64_t reused_tokens = 0;  // of prompts, copied from earlier requests instead
  std::uint64_t completion_tokens = 0;
  std::uint64_t finished = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t failed = 0;
  std::uint64_t preempted = 0;  // times a request gave its KV back
  std::uint64_t own_kv_bytes = 0;
  std::uint64_t kept_kv_bytes = 0;
  int running = 0;
  int queued = 0;
};

// Thread-safe. The clock must outlive the loop. Destruction (or stop()) ends running requests with kCancelled.
class BatchLoop {
 public:
  BatchLoop(std::unique_ptr<Engine> engine, const Clock& clock, const BatchOptions& options, Log log);
  ~BatchLoop();

  // kInvalid for a request that can never run (empty prompt, longer than the model's context or the KV budget); kOverloaded
  // when full.
  Result<std::shared_ptr<Generation>> submit(GenerationRequest request);
  // Something a request waits for may have changed (a context's layer is in).
  void wake();
  // Lets running and queued requests finish for up to `grace`, refuses new ones at once, then ends what is left. Idempotent.
  void stop(std::chrono::milliseconds grace);
  BatchStats stats() const;

 private:
  using Sequences = std::list<std::unique_ptr<Sequence>>;

  void run(std::stop_token stop);
  bool step();  // false when there was nothing to do
  void admit();
  void drop_cancelled();
  void remove_ended();

  // Memory.
  KvType own_type(const Sequence& sequence) const;
  std::uint64_t bytes_of(const Sequence& sequence, int n_tokens) const;
  std::uint64_t running_bytes() const;
  bool make_room(std::uint64_t bytes);
  void relieve();
  void keep_prefix(const Sequence& sequence);

  // Work, in batch_step.cpp.
  struct Batch {
    std::vector<Token> tokens;
    std::vector<SequenceChunk> chunks;
    std::vector<Sequence*> members;
    void add(Sequence& sequence, int n_tokens);
  };
  bool compute_contexts();
  int prompt_share() const;
  PrefixCache::Match reusable(const Sequence& sequence);
  bool should_wait(const Sequence& sequence, int reusable_now) const;
  Result<bool> start(Sequence& sequence);
  bool is_started(Sequence& sequence);
  bool advance_waiting();
  Result<bool> advance_layers(Sequence& sequence, int share);
  Status end_layers(Sequence& sequence);
  void add_prompts(Batch& batch);
  bool run_batch();
  void passed(Sequence& sequence, int n_tokens, std::span<const float> logits);
  void fail_sequence(Sequence& sequence, const Error& error);
  void note_stats();

  const std::unique_ptr<Engine> engine_;
  const Clock& clock_;
  const BatchOptions options_;
  const Log log_;

  // Only the loop's thread touches these.
  Sequences running_;
  ContextCompute compute_;
  PrefixCache prefixes_;
  Duration row_time_{};  // of a row of a batch, lately; zero before the first
  BatchStats counted_;   // copied to stats_ after each step

  mutable std::mutex mutex_;
  std::condition_variable woken_;
  std::condition_variable idle_;
  std::deque<std::unique_ptr<Sequence>> queue_;  // protected by mutex_
  std::uint64_t next_number_ = 0;                // protected by mutex_
  bool wake_ = false;                            // protected by mutex_
  bool closed_ = false;                          // protected by mutex_
  BatchStats stats_;                             // protected by mutex_
  std::jthread thread_;                          // last: starts when all else is there
};

}  // namespace celslm
