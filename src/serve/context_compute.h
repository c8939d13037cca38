// Contexts whose missing layers are computed on this box, a unit (a layer's step) at a time between other work.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "core/result.h"
#include "model/engine.h"
#include "model/prefill.h"
#include "serve/resident_context.h"

namespace celslm {

// Used by the engine's thread alone. The engine must outlive this.
class ContextCompute {
 public:
  explicit ContextCompute(Engine& engine);
  ~ContextCompute();

  // Takes the context up if it wants to be computed and is not taken up yet. It is finished even if nobody waits for it any
  // more: the next request will want it.
  Status take_up(const std::shared_ptr<ResidentContext>& context);
  bool idle() const { return jobs_.empty(); }

  struct Failure {
    std::shared_ptr<ResidentContext> context;  // dropped from here
    Error error;
  };
  // The next unit of one context; not when idle().
  std::optional<Failure> advance();

 private:
  struct Job;

  Engine& engine_;
  std::map<ResidentContext*, std::unique_ptr<Job>> jobs_;
};

}  // namespace celslm
