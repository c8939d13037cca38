#include "net/connection_table.h"

#include "net/http_limits.h"

namespace celslm {

using std::chrono::steady_clock;

void ConnectionTable::add(Connection& connection) {
  const MutexLock lock(mutex_);
  entries_[&connection] = Entry{.since = steady_clock::now()};
  if (aborted_) connection.abort();
}

void ConnectionTable::remove(Connection& connection) {
  const MutexLock lock(mutex_);
  entries_.erase(&connection);
}

void ConnectionTable::set(Connection& connection, State state) {
  Entry& entry = entries_[&connection];
  entry.since = steady_clock::now();
  if (draining_ && state == State::kIdle) {
    entry.state = State::kClosing;
    connection.end_input();
  } else {
    entry.state = state;
  }
}

void ConnectionTable::set_idle(Connection& connection) {
  const MutexLock lock(mutex_);
  set(connection, State::kIdle);
}

void ConnectionTable::set_head(Connection& connection) {
  const MutexLock lock(mutex_);
  set(connection, State::kHead);
}

bool ConnectionTable::begin_work(Connection& connection, bool open) {
  const MutexLock lock(mutex_);
  if (!open && counted_ >= max_working_) return false;
  set(connection, State::kWorking);
  entries_[&connection].counted = !open;
  counted_ += open ? 0 : 1;
  ++working_;
  return true;
}

void ConnectionTable::end_work(Connection& connection) {
  const MutexLock lock(mutex_);
  Entry& entry = entries_[&connection];
  if (entry.state != State::kWorking) return;
  counted_ -= entry.counted ? 1 : 0;
  --working_;
  entry = Entry{.since = steady_clock::now()};
  changed_.notify_all();
}

bool ConnectionTable::evict_one() {
  const MutexLock lock(mutex_);
  const auto now = steady_clock::now();
  auto* best = static_cast<decltype(entries_)::value_type*>(nullptr);
  for (auto& item : entries_) {
    const Entry& entry = item.second;
    const bool slow_head = entry.state == State::kHead && now - entry.since > kSlowHead;
    if (entry.state != State::kIdle && !slow_head) continue;
    if (best == nullptr || entry.since < best->second.since) best = &item;
  }
  if (best == nullptr) return false;
  best->second.state == State::kIdle ? best->first->end_input() : best->first->abort();
  best->second.state = State::kClosing;
  return true;
}

void ConnectionTable::drain() {
  const MutexLock lock(mutex_);
  draining_ = true;
  for (auto& [connection, entry] : entries_) {
    if (entry.state == State::kIdle) set(*connection, State::kIdle);
  }
}

bool ConnectionTable::draining() const {
  const MutexLock lock(mutex_);
  return draining_;
}

bool ConnectionTable::wait_until_idle(steady_clock::time_point deadline) {
  const MutexLock lock(mutex_);
  return changed_.wait_until(mutex_, deadline, [&]() CELSLM_REQUIRES(mutex_) { return working_ == 0; });
}

void ConnectionTable::abort_all() {
  const MutexLock lock(mutex_);
  aborted_ = true;
  for (auto& [connection, entry] : entries_) connection->abort();
}

}  // namespace celslm
