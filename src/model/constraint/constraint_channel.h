// An edge's end of the socket of one child.
#pragma once

#include <functional>
#include <optional>

#include "core/clock.h"
#include "core/mutex.h"
#include "core/result.h"
#include "model/constraint/constraint.h"
#include "model/constraint/constraint_child.h"
#include "model/constraint/message.h"

namespace celslm {

// Thread-safe. The child is killed at the end.
class ConstraintChannel {
 public:
  ConstraintChannel(Descriptor socket, Descriptor process, const Clock& clock, const ChildLimits& limits);
  ~ConstraintChannel();
  ConstraintChannel(const ConstraintChannel&) = delete;
  ConstraintChannel& operator=(const ConstraintChannel&) = delete;

  void ask(const Message& question) CELSLM_EXCLUDES(mutex_);
  std::optional<Result<Verdict>> take_answer() CELSLM_EXCLUDES(mutex_);
  void wait(Duration time) CELSLM_EXCLUDES(mutex_);

  // For whoever watches many: the descriptor to poll (-1: nothing more comes), and what to do when it is readable or some
  // time has passed: true if an answer came by that.
  int descriptor() const CELSLM_EXCLUDES(mutex_);
  bool look() CELSLM_EXCLUDES(mutex_);

 private:
  void read() CELSLM_REQUIRES(mutex_);
  void end(Error error) CELSLM_REQUIRES(mutex_);
  void kill() const;

  const Descriptor socket_;
  const Descriptor process_;
  const Clock& clock_;
  const ChildLimits limits_;
  mutable Mutex mutex_;
  MessageReader reader_ CELSLM_GUARDED_BY(mutex_);
  bool compiled_ CELSLM_GUARDED_BY(mutex_) = false;
  bool asked_ CELSLM_GUARDED_BY(mutex_) = false;
  TimePoint asked_at_ CELSLM_GUARDED_BY(mutex_){};
  std::optional<Result<Verdict>> answer_ CELSLM_GUARDED_BY(mutex_);
  std::optional<Error> ended_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
