// All open connections and their states: limits concurrent handlers, evicts idle connections, shuts down in an orderly way.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>

#include "core/mutex.h"
#include "net/connection.h"

namespace celslm {

// Thread-safe. A connection is added, and removed before it is destroyed, by the thread that owns it.
class ConnectionTable {
 public:
  enum class State {
    kIdle,     // between requests
    kHead,     // a request head is arriving
    kWorking,  // a handler or its stream is running
    kClosing,  // told to end
  };

  explicit ConnectionTable(int max_working) : max_working_(max_working) {}

  void add(Connection& connection);
  void remove(Connection& connection);
  void set_idle(Connection& connection);
  void set_head(Connection& connection);
  // False if `max_working` handlers are running; `open` requests (health checks) are always admitted and not counted.
  bool begin_work(Connection& connection, bool open);
  void end_work(Connection& connection);

  // Ends the connection that has been idle, or whose head has been overdue (kSlowHead), for the longest time. False if there
  // is none.
  bool evict_one();

  // From now on idle connections are ended, and working ones after their response.
  void drain();
  bool draining() const;
  bool wait_until_idle(std::chrono::steady_clock::time_point deadline);  // true once no handler is running
  void abort_all();                                                      // including connections added later

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
  int working_ CELSLM_GUARDED_BY(mutex_) = 0;  // running handlers, including those of open paths
  int counted_ CELSLM_GUARDED_BY(mutex_) = 0;  // running handlers that count against max_working_
  bool draining_ CELSLM_GUARDED_BY(mutex_) = false;
  bool aborted_ CELSLM_GUARDED_BY(mutex_) = false;
};

}  // namespace celslm
