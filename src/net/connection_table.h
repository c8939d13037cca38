// All open connections and what each is doing: whom a new connection displaces, and orderly shutdown.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>

#include "core/mutex.h"

namespace celslm {

class Connection;

// Used by the I/O thread only, except wait_until_idle(). A connection adds itself and removes itself before it is destroyed.
class ConnectionTable {
 public:
  enum class State {
    kIdle,     // between requests
    kReading,  // a request, or a TLS handshake, is arriving
    kWorking,  // it is being answered
    kClosing,  // its last bytes are on their way
  };
  using Clock = std::chrono::steady_clock;

  // Where a connection stands; kept by the connection.
  struct Place {
    State state = State::kReading;
    Clock::time_point since;
    std::list<Connection*>::iterator at;
  };

  void add(Connection& connection, Place& place);
  void move(Place& place, State state);
  void remove(Place& place);

  std::size_t size() const { return idle_.size() + reading_.size() + working_.size() + closing_.size(); }
  // Ends the connection that has been idle for the longest time, or else the one whose request has been arriving for the
  // longest (kSlowRequest at least). False if there is none.
  bool evict_one();

  // From now on idle connections are ended, and working ones after their response.
  void drain();
  bool draining() const { return draining_; }
  void abort_all();

  // From another thread: true once nothing is being answered.
  bool wait_until_idle(Clock::time_point deadline) CELSLM_EXCLUDES(mutex_);

 private:
  std::list<Connection*>& list_of(State state);
  void count_working(int change) CELSLM_EXCLUDES(mutex_);

  // Longest in their state first.
  std::list<Connection*> idle_;
  std::list<Connection*> reading_;
  std::list<Connection*> working_;
  std::list<Connection*> closing_;
  bool draining_ = false;
  Mutex mutex_;
  ConditionVariable changed_;
  int n_working_ CELSLM_GUARDED_BY(mutex_) = 0;
};

}  // namespace celslm
