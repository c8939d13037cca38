// The threads on which all loads of an edge open and read their sources.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/log.h"
#include "core/mutex.h"
#include "core/spawn.h"
#include "plan/load_orders.h"

namespace celslm {

// As many threads as there are places, at most, for any number of loads; each is made when it is first needed. Work runs
// only in a place that was taken before, so no work waits for a thread. Openings have places of their own: one that follows
// a cloud which is still computing takes as long as that does. Thread-safe.
class LoadWorkers {
 public:
  using Limits = std::array<int, kLoadWorks>;  // by LoadWork
  static constexpr Limits kDefaultLimits{16, 16, 2};

  LoadWorkers(const Limits& limits, Spawn spawn, Log log);
  // No place may be taken any more.
  ~LoadWorkers();

  // Of the loads that wait for a place, those with the smallest number get the next ones. `freed` is called with no lock
  // held, once for each refusal.
  std::uint64_t next_number() CELSLM_EXCLUDES(mutex_);
  Result<bool> take(LoadWork work, std::uint64_t number, std::function<void()> freed) CELSLM_EXCLUDES(mutex_);
  void put_back(LoadWork work) CELSLM_EXCLUDES(mutex_);
  // In a place that was taken, which is free again once `job` has returned and is destroyed.
  void run(LoadWork work, std::function<void()> job) CELSLM_EXCLUDES(mutex_);
  std::size_t threads() const CELSLM_EXCLUDES(mutex_);

 private:
  struct Job {
    std::optional<std::size_t> place;
    std::function<void()> run;
  };
  using Waiting = std::map<std::uint64_t, std::function<void()>>;

  Status have_thread() CELSLM_REQUIRES(mutex_);
  void work() CELSLM_EXCLUDES(mutex_);
  void carry_out(Job job) CELSLM_EXCLUDES(mutex_);
  void offer_instead_of(std::size_t place) CELSLM_EXCLUDES(mutex_);
  void offer(std::size_t index) CELSLM_EXCLUDES(mutex_);

  const Limits limits_;
  const Spawn spawn_;
  const Log log_;
  mutable Mutex mutex_;
  ConditionVariable more_;
  std::deque<Job> jobs_ CELSLM_GUARDED_BY(mutex_);
  std::array<int, kLoadWorks> taken_ CELSLM_GUARDED_BY(mutex_){};
  std::size_t n_taken_ CELSLM_GUARDED_BY(mutex_) = 0;
  std::array<Waiting, kLoadWorks> waiting_ CELSLM_GUARDED_BY(mutex_);
  std::uint64_t last_number_ CELSLM_GUARDED_BY(mutex_) = 0;
  bool stopping_ CELSLM_GUARDED_BY(mutex_) = false;
  bool short_of_threads_ CELSLM_GUARDED_BY(mutex_) = false;  // and logged
  std::vector<std::jthread> threads_ CELSLM_GUARDED_BY(mutex_);
};

}  // namespace celslm
