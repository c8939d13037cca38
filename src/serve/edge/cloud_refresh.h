// Keeps what an edge knows of its cloud up to date, and lets idle work run in between.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>

#include "core/clock.h"
#include "core/log.h"
#include "core/mutex.h"
#include "core/result.h"
#include "core/timed_condition.h"
#include "model/engine/model.h"
#include "serve/edge/context_directory.h"
#include "serve/edge/context_memory.h"
#include "serve/edge/idle_work.h"
#include "serve/wire/cloud_client.h"

namespace celslm {

// What is refreshed; all of it outlives the CloudRefresh.
struct CloudRefreshParts {
  std::shared_ptr<CloudClient> cloud;  // may be null
  std::shared_ptr<const Model> model;
  ContextDirectory& directory;
  ContextMemory& contexts;
  IdleWork& idle_work;
  bool mapped = false;  // whether the cloud's maps are asked for
  Hash256 tuning;       // whether the cloud has it is asked; zero: none
  const Clock& clock;
  Log log;
};

struct RefreshTimes {
  std::chrono::milliseconds interval{
      2'000};                      // between reads of a list whose cloud cannot hold its answer, and after failures
  std::chrono::seconds hold{180};  // for which it is asked to hold it at most; 0: it is not
};

// Thread-safe. Owns two threads once start() was called, one that waits for the cloud and one for idle work; the destructor
// ends them. What it does at the same time as others do with other edges' clouds is spread by chance.
class CloudRefresh {
 public:
  explicit CloudRefresh(CloudRefreshParts parts) : parts_(std::move(parts)), stopped_(parts_.clock) {}

  // Refreshes now, and again whenever the cloud's list changes, until destroyed. Without a cloud nothing is started.
  void start(const RefreshTimes& times);
  // Reads the cloud's list of contexts, its key, its maps and its tunings now. Errors are those of the list.
  Status refresh() {
    return refresh({}).transform([](const auto&) {});
  }

 private:
  using Refreshed = ContextDirectory::Refreshed;
  Result<Refreshed> refresh(const ContextDirectory::Wait& wait);
  void refresh_guidance();
  Status ask_guidance();
  void report(const Result<Refreshed>& refreshed);
  void watch(const std::stop_token& stop, const RefreshTimes& times);
  void work_when_idle(const std::stop_token& stop, std::chrono::milliseconds interval);
  // Time times a number drawn from [low, high].
  Duration about(Duration time, double low, double high);
  void pause(const std::stop_token& stop, Duration time) CELSLM_EXCLUDES(mutex_);
  Duration pause_between(const Refreshed& last, std::chrono::seconds hold, std::chrono::seconds took,
                         const RefreshTimes& times);

  const CloudRefreshParts parts_;
  Mutex mutex_;
  TimedCondition stopped_;
  std::atomic<bool> knows_guidance_ = false;  // the cloud was asked for its maps and tunings since it was reached
  // Of the watching thread alone.
  std::minstd_rand chance_{std::random_device()()};
  std::optional<bool> reachable_;  // what the log knows
  std::jthread watcher_;
  std::jthread worker_;
};

}  // namespace celslm
