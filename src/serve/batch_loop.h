// The one thread that runs an edge's engine: requests join and leave the running batch at every step.
//
// A step does a bounded amount of each kind of work in turn, so that nobody waits for somebody else's long prompt:
//   1. one unit (a layer's step) of one context that has to be computed here,
//   2. for each request whose prompt is not through: as many layers as its context has ready, within a budget,
//   3. one token for every request that is answering, as one batch.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "core/clock.h"
#include "core/log.h"
#include "core/result.h"
#include "model/engine.h"
#include "serve/context_compute.h"
#include "serve/generation.h"

namespace celslm {

struct BatchOptions {
  int max_running = 32;           // requests in the batch
  int max_queued = 128;           // beyond these, submit() says kOverloaded
  KvType kv_type = KvType::kF16;  // of requests without a context; others take their context's
  int prompt_step = 256;          // tokens of a prompt that pass through the layers at once
  int busy_budget = 2048;         // tokens x layers of prompt work per step while others are answering
};

struct BatchStats {
  std::uint64_t steps = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t finished = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t failed = 0;
  int running = 0;
  int queued = 0;
};

// Thread-safe. The clock must outlive the loop. Destruction (or stop()) ends running requests with kCancelled.
class BatchLoop {
 public:
  BatchLoop(std::unique_ptr<Engine> engine, const Clock& clock, const BatchOptions& options, Log log);
  ~BatchLoop();

  // kInvalid for a request that can never run (empty prompt, longer than the model's context); kOverloaded when full.
  Result<std::shared_ptr<Generation>> submit(GenerationRequest request);
  // Something a request waits for may have changed (a context's layer is in).
  void wake();
  // Lets running and queued requests finish for up to `grace`, refuses new ones at once, then ends what is left. Idempotent.
  void stop(std::chrono::milliseconds grace);
  BatchStats stats() const;

 private:
  struct Sequence;

  void run(std::stop_token stop);
  bool step();  // false when there was nothing to do
  void admit();
  void drop_cancelled();
  bool compute_contexts();
  bool advance_prompts();
  bool advance_prompt(Sequence& sequence, int budget);
  Status begin_prompt_step(Sequence& sequence);
  void finish_prompt(Sequence& sequence);
  bool decode();
  void accept(Sequence& sequence, std::span<const float> logits);
  void finish(Sequence& sequence, FinishReason reason);
  void fail_sequence(Sequence& sequence, const Error& error);
  bool anyone_answering() const;
  void remove_ended();

  const std::unique_ptr<Engine> engine_;
  const Clock& clock_;
  const BatchOptions options_;
  const Log log_;

  // Only the loop's thread touches these.
  std::list<std::unique_ptr<Sequence>> running_;
  ContextCompute compute_;

  mutable std::mutex mutex_;
  std::condition_variable woken_;
  std::condition_variable idle_;
  std::deque<std::unique_ptr<Sequence>> queue_;  // protected by mutex_
  bool wake_ = false;                            // protected by mutex_
  bool closed_ = false;                          // protected by mutex_
  BatchStats stats_;                             // protected by mutex_
  std::jthread thread_;                          // last: starts when all else is there
};

}  // namespace celslm
