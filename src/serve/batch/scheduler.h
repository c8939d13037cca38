// Which requests are in the batch and which wait, within the places and the memory that the options allow.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "core/clock.h"
#include "core/log.h"
#include "core/result.h"
#include "model/engine/engine.h"
#include "serve/batch/batch_options.h"
#include "serve/batch/batch_runner.h"
#include "serve/batch/kv_memory.h"
#include "serve/batch/sequence.h"

namespace celslm {

// A waiting request joins the batch when its prompt fits the KV budget; kept prefixes are evicted for it. When answers
// outgrow the budget, the request that came last is preempted: it loses its KV, waits at the head of the queue and is
// computed again. Used by the loop's thread alone. Engine and clock must outlive this.
class Scheduler {
 public:
  Scheduler(Engine& engine, const Clock& clock, const BatchOptions& options, Log log);

  // To the end of the queue.
  void add(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }
  // Ends cancelled requests and moves waiting ones into the batch.
  void admit();
  // One step of the batch. False if there was nothing to do.
  bool step();
  // Ends those in the batch, and the computing of contexts: what was being done cannot be gone on with.
  void fail_running(const Error& error);
  // Ends all requests.
  void fail_all(const Error& error);
  BatchStats stats() const;

 private:
  void remove_ended();
  void count_ended(const Sequence& sequence);
  void relieve();
  void refuse_next();

  const Clock& clock_;
  const BatchOptions options_;
  const Log log_;
  KvMemory memory_;
  BatchRunner runner_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  Sequences running_;
  BatchStats counted_;  // what stats() does not ask of others
};

}  // namespace celslm
