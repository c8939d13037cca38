// Contexts whose missing layers are computed on this box, a unit (a layer's step) at a time between other work.
#pragma once

#include <list>
#include <memory>

#include "core/clock.h"
#include "core/memory_ledger.h"
#include "core/result.h"
#include "model/engine/engine.h"
#include "model/engine/prefill.h"
#include "serve/context/resident_context.h"

namespace celslm {

// What a context that is being computed needs besides its own KV is in the ledger's account "computing". Where there is no
// memory for several, they are taken up one after the other. Used by the engine's thread alone. What it is made of must
// outlive this.
class ContextCompute {
 public:
  ContextCompute(Engine& engine, const Clock& clock, MemoryLedger& memory);
  ~ContextCompute();

  // Adds the context to those that are computed here, if it wants a unit and is not among them yet. It is finished even if
  // nobody waits for it any more: the next request will want it.
  void add(const std::shared_ptr<ResidentContext>& context);

  struct Step {
    bool worked = false;
    std::shared_ptr<ResidentContext> failed;  // and removed; null if nothing failed
    Error error;
  };
  // Computes the next unit of the first context that wants one; those that have begun come first. kOverloaded where there is
  // no memory even for one.
  Step advance();
  void drop_all();
  // Whether the last advance() computed something.
  bool busy() const { return busy_; }

 private:
  struct Job;
  using Jobs = std::list<std::unique_ptr<Job>>;
  Status advance(Job& job, ComputeWork& work);
  Status begin(Job& job, const ComputeWork& work);
  Jobs::iterator next_job();
  std::uint64_t bytes_for(const ResidentContext& context) const;

  Engine& engine_;
  const Clock& clock_;
  MemoryLedger& memory_;
  Jobs jobs_;  // oldest first
  bool busy_ = false;
};

}  // namespace celslm
