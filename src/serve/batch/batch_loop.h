// The one thread that runs an edge's engine: requests join and leave the running batch at every step.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "core/timed_condition.h"
#include "model/engine/engine.h"
#include "serve/batch/batch_options.h"
#include "serve/batch/generation.h"
#include "serve/batch/scheduler.h"

namespace celslm {

// Takes requests from any thread and hands them to the scheduler, which the loop's own thread runs. Thread-safe. The clock
// must outlive the loop and the generations. Destruction (or stop()) ends running requests with kUnavailable.
class BatchLoop {
 public:
  // constraints: of requests with grammars; where there is none, these are refused.
  BatchLoop(std::unique_ptr<Engine> engine, const Clock& clock, const BatchOptions& options, Log log,
            std::shared_ptr<ConstraintMaker> constraints = nullptr);
  ~BatchLoop();

  // kInvalid for a request that can never run (empty prompt, longer than the model's context or the KV budget); kOverloaded
  // when full; kUnavailable after stop(). Blocks while a grammar is compiled; errors as ConstraintMaker.
  Result<std::shared_ptr<Generation>> submit(GenerationRequest request) CELSLM_EXCLUDES(mutex_);
  // The texts of one answer (at least one): all of them or none are taken. Their pieces come through one channel, and a
  // prompt that they begin with is computed once.
  Result<std::vector<std::shared_ptr<Generation>>> submit(std::vector<GenerationRequest> requests) CELSLM_EXCLUDES(mutex_);
  // Something a request waits for may have changed (a context's layer is in).
  void wake() CELSLM_EXCLUDES(mutex_);
  // Refuses new requests at once, lets the others finish for up to `grace`, then ends what is left. Idempotent.
  void stop(std::chrono::milliseconds grace) CELSLM_EXCLUDES(mutex_);
  BatchStats stats() const CELSLM_EXCLUDES(mutex_);

 private:
  Result<TokenChoice> choice_for(const GenerationRequest& request);
  Status check(const GenerationRequest& request) const;
  void run(std::stop_token stop) CELSLM_EXCLUDES(mutex_);
  bool step() CELSLM_EXCLUDES(mutex_);
  void take_arrivals() CELSLM_EXCLUDES(mutex_);
  void publish_stats() CELSLM_EXCLUDES(mutex_);

  const std::unique_ptr<Engine> engine_;
  const Clock& clock_;
  const BatchOptions options_;
  const std::shared_ptr<ConstraintMaker> constraints_;  // may be null
  Scheduler scheduler_;                                 // the thread's alone

  mutable Mutex mutex_;
  TimedCondition woken_;
  TimedCondition idle_;
  std::vector<std::unique_ptr<Sequence>> arrivals_ CELSLM_GUARDED_BY(mutex_);  // submitted, not in the scheduler yet
  std::uint64_t next_number_ CELSLM_GUARDED_BY(mutex_) = 0;
  bool wake_ CELSLM_GUARDED_BY(mutex_) = false;
  bool closed_ CELSLM_GUARDED_BY(mutex_) = false;
  BatchStats stats_ CELSLM_GUARDED_BY(mutex_);  // the scheduler's, as of the last publish_stats()
  std::jthread thread_;                         // last: starts when all else is there
};

}  // namespace celslm
