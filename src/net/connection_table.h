// Which connections are open and what each is doing: admission of work, eviction of idle peers, orderly shutdown.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>

#include "core/mutex.h"
#include "net/connection.h"

namespace celslm {

// Thread-safe. Connections are registered by the thread that owns them and removed before they die.
class ConnectionTable {
 public:
  enum class State {
    kIdle,     // between requests
    kHead,     // a request is arriving
    kWorking,  // a handler or its stream runs
    kLeaving,  // asked to end
  };

  explicit ConnectionTable(int max_working) : max_working_(max_working) {}

  void add(Connection& connection);
  void remove(Connection& connection);
  void set_idle(Connection& connection);
  void set_head(Connection& connection);
  // False when `max_working` handlers run already; `open` requests (health checks) are not counted against it.
  bool begin_work(Connection& connection, bool open);
  void end_work(Connection& connection);

  // Asks the connection that has been idle longest, or one whose head is overdue, to end; false when there is none.
  bool evict_one();

  // From now on idle connections end, and working ones after their answer.
  void drain();
  bool draining() const;
  bool wait_until_quiet(std::chrono::steady_clock::time_point deadline);  // no handler runs
  void cut_all();                                                         // also those added later

 private:
  struct Entry {
    State state = State::kHead;
    bool counted = false;
    std::chrono::steady_clock::time_point since;
  };
  void set(Connection& connection, State state) CELSLM_REQUIRES(mutex_);

  const int max_working_;
  mutable Mutex mutex_;
  ConditionVariable changed_;
  std::map<Connection*, Entry> entries_ CELSLM_GUARDED_BY(mutex_);
  int working_ CELSLM_GUARDED_BY(mutex_) = 0;  // handlers running, of any path
  int counted_ CELSLM_GUARDED_BY(mutex_) = 0;  // those counted against max_working_
  bool draining_ CELSLM_GUARDED_BY(mutex_) = false;
  bool cut_ CELSLM_GUARDED_BY(mutex_) = false;
};

}  // namespace celslm
