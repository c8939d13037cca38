#include "net/connection_table.h"

#include <vector>

#include "net/connection.h"
#include "net/http_limits.h"

namespace celslm {

std::list<Connection*>& ConnectionTable::list_of(State state) {
  switch (state) {
    case State::kIdle: return idle_;
    case State::kReading: return reading_;
    case State::kWorking: return working_;
    case State::kClosing: break;
  }
  return closing_;
}

void ConnectionTable::count_working(int change) {
  const MutexLock lock(mutex_);
  n_working_ += change;
  if (n_working_ == 0) changed_.notify_all();
}

void ConnectionTable::add(Connection& connection, Place& place) {
  place = {.state = State::kReading, .since = Clock::now(), .at = reading_.insert(reading_.end(), &connection)};
}

void ConnectionTable::move(Place& place, State state) {
  if (place.state == State::kWorking && state != State::kWorking) count_working(-1);
  if (place.state != State::kWorking && state == State::kWorking) count_working(1);
  auto& to = list_of(state);
  to.splice(to.end(), list_of(place.state), place.at);
  place.state = state;
  place.since = Clock::now();
}

void ConnectionTable::remove(Place& place) {
  if (place.state == State::kWorking) count_working(-1);
  list_of(place.state).erase(place.at);
}

bool ConnectionTable::evict_one() {
  const std::size_t before = size();
  while (!idle_.empty()) {
    idle_.front()->end_idle();
    if (size() < before) return true;  // or its next request had arrived
  }
  if (reading_.empty() || Clock::now() - reading_.front()->place().since < kSlowRequest) return false;
  reading_.front()->close();
  return true;
}

void ConnectionTable::drain() {
  draining_ = true;
  while (!idle_.empty()) idle_.front()->end_idle();
}

void ConnectionTable::abort_all() {
  for (auto* list : {&idle_, &reading_, &working_, &closing_}) {
    while (!list->empty()) list->front()->close();
  }
}

bool ConnectionTable::wait_until_idle(Clock::time_point deadline) {
  const MutexLock lock(mutex_);
  return changed_.wait_until(mutex_, deadline, [&]() CELSLM_REQUIRES(mutex_) { return n_working_ == 0; });
}

}  // namespace celslm
