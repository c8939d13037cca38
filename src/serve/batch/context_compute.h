// Contexts whose missing layers are computed on this box, a unit (a layer's step) at a time between other work.
#pragma once

#include <list>
#include <memory>

#include "core/clock.h"
#include "core/result.h"
#include "model/engine/engine.h"
#include "model/engine/prefill.h"
#include "serve/context/resident_context.h"

namespace celslm {

// Used by the engine's thread alone. Engine and clock must outlive this.
class ContextCompute {
 public:
  ContextCompute(Engine& engine, const Clock& clock);
  ~ContextCompute();

  // Adds the context to those that are computed here, if it wants a unit and is not among them yet. It is finished even if
  // nobody waits for it any more: the next request will want it.
  Status add(const std::shared_ptr<ResidentContext>& context);

  struct Step {
    bool worked = false;
    std::shared_ptr<ResidentContext> failed;  // and removed; null if nothing failed
    Error error;
  };
  // Computes the next unit of the first context that wants one.
  Step advance();
  // Whether the last advance() computed something.
  bool busy() const { return busy_; }

 private:
  struct Job;
  Status advance(Job& job, ComputeWork& work);

  Engine& engine_;
  const Clock& clock_;
  std::list<std::unique_ptr<Job>> jobs_;  // oldest first
  bool busy_ = false;
};

}  // namespace celslm
