// Keeps what an edge knows of its cloud up to date, and lets idle work run in between.
#pragma once

#include <chrono>
#include <memory>
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

// Thread-safe. Owns one thread once start() was called; the destructor ends it.
class CloudRefresh {
 public:
  explicit CloudRefresh(CloudRefreshParts parts) : parts_(std::move(parts)), stopped_(parts_.clock) {}

  // Refreshes now, then every `interval`, until destroyed. Without a cloud nothing is started.
  void start(std::chrono::milliseconds interval);
  // Reads the cloud's list of contexts, its key, its maps and its tunings now. Errors are those of the list.
  Status refresh();

 private:
  void run(std::stop_token stop, std::chrono::milliseconds interval);
  Status refresh_guidance();

  const CloudRefreshParts parts_;
  Mutex mutex_;
  TimedCondition stopped_;
  std::jthread thread_;
};

}  // namespace celslm
