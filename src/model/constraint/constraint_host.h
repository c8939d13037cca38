// Constraints whose grammars run in processes of their own: what a client sends as a grammar can end, stall or swell nothing
// but its own request. docs/decisions/grammar-processes.md tells why.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"
#include "model/constraint/constraint.h"
#include "model/constraint/constraint_channel.h"

namespace celslm {

struct ConstraintHostOptions {
  // The program and its arguments: one that calls run_constraint_host() for the model served, with kControlDescriptor.
  std::vector<std::string> command;
  int most = 64;       // constraints at the same time; more are kOverloaded
  ChildLimits limits;  // those that the command has, for messages
};

// Starts the host with the first constraint, and another one after a host has died. Thread-safe; must outlive its
// constraints, the clock must outlive it.
class ConstraintHost final : public ConstraintMaker {
 public:
  ConstraintHost(ConstraintHostOptions options, const Clock& clock, Log log);
  ~ConstraintHost() override;
  ConstraintHost(const ConstraintHost&) = delete;
  ConstraintHost& operator=(const ConstraintHost&) = delete;

  Result<std::unique_ptr<Constraint>> make(const GrammarSpec& grammar, std::function<void()> answered) override
      CELSLM_EXCLUDES(mutex_, starting_);
  // The host's, or 0 while there is none; for tests.
  pid_t process() const CELSLM_EXCLUDES(starting_);

 private:
  struct Watched {
    std::shared_ptr<ConstraintChannel> channel;
    std::function<void()> answered;
  };
  class Remote;

  Result<std::shared_ptr<ConstraintChannel>> new_child() CELSLM_EXCLUDES(starting_);
  Status start() CELSLM_REQUIRES(starting_);
  void end_host() CELSLM_REQUIRES(starting_);
  Status take_place() CELSLM_EXCLUDES(mutex_);
  void leave_place() CELSLM_EXCLUDES(mutex_);
  void watch(const std::shared_ptr<ConstraintChannel>& channel, std::function<void()> answered) CELSLM_EXCLUDES(mutex_);
  void forget(const ConstraintChannel* channel) CELSLM_EXCLUDES(mutex_, calling_);
  void run(const std::stop_token& stop) CELSLM_EXCLUDES(mutex_, calling_);
  void tell(const ConstraintChannel* channel) CELSLM_EXCLUDES(mutex_, calling_);
  void poke() const;

  const ConstraintHostOptions options_;
  const Clock& clock_;
  const Log log_;
  const Descriptor poke_;  // an eventfd: the watcher looks at its list again

  mutable Mutex starting_;
  Descriptor control_ CELSLM_GUARDED_BY(starting_);
  pid_t process_ CELSLM_GUARDED_BY(starting_) = 0;

  Mutex calling_ CELSLM_ACQUIRED_AFTER(mutex_);  // held while a constraint's owner is told of an answer
  Mutex mutex_;
  int n_used_ CELSLM_GUARDED_BY(mutex_) = 0;
  std::vector<Watched> watched_ CELSLM_GUARDED_BY(mutex_);
  std::jthread watcher_;  // last
};

}  // namespace celslm
