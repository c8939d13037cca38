// Requests for a cloud's list of contexts that wait until it changes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "core/clock.h"
#include "core/mutex.h"
#include "core/timed_condition.h"
#include "net/http_types.h"

namespace celslm {

// Each edge holds one such request, so that it learns of a change at once and costs next to nothing while there is none. All
// of them together have one thread. Thread-safe; what it is made of must outlive it, and the server must have stopped
// before.
class HeldLists {
 public:
  // answer: the response to a request that knows the revision `since`, as of now. revision: the current one. Both are called
  // from any thread and must not call this.
  using Answer = std::function<HttpResponse(const std::string& since)>;
  using Revision = std::function<std::string()>;
  HeldLists(const Clock& clock, Revision revision, Answer answer);

  // Answers when the revision is no longer `since`, or after `wait`; at once if too many wait already, or after stop().
  HttpResponse hold(std::string since, Duration wait) CELSLM_EXCLUDES(mutex_);
  // The revision has changed.
  void changed() { changed_.notify_all(); }
  // Answers all that wait, and ends the thread. Idempotent; not from two threads at once.
  void stop() CELSLM_EXCLUDES(mutex_);
  std::size_t size() const CELSLM_EXCLUDES(mutex_);

 private:
  struct Held {
    std::string since;
    std::shared_ptr<HttpReply> reply;
  };
  using Key = std::pair<TimePoint, std::uint64_t>;  // when it is answered at the latest; a number of its own
  using All = std::map<Key, Held>;

  void add(const std::string& since, TimePoint until, const std::shared_ptr<HttpReply>& reply) CELSLM_EXCLUDES(mutex_);
  void remove(const Key& key) CELSLM_EXCLUDES(mutex_);
  void run(const std::stop_token& stop) CELSLM_EXCLUDES(mutex_);
  bool is_stopped() const CELSLM_EXCLUDES(mutex_);
  bool is_full() const CELSLM_EXCLUDES(mutex_);
  TimePoint first_deadline(TimePoint otherwise) const CELSLM_REQUIRES(mutex_);
  All take_due(const std::string& revision) CELSLM_REQUIRES(mutex_);
  void answer(const All& due) const;

  const Clock& clock_;
  const Revision revision_;
  const Answer answer_;
  mutable Mutex mutex_;
  TimedCondition changed_;
  All held_ CELSLM_GUARDED_BY(mutex_);
  std::uint64_t next_ CELSLM_GUARDED_BY(mutex_) = 0;
  bool stopped_ CELSLM_GUARDED_BY(mutex_) = false;
  std::jthread thread_;  // last: ends first
};

}  // namespace celslm
