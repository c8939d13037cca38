// Fills resident contexts from the sources an edge has: its own disk, then its cloud. What no source can supply is given up,
// and computed by whoever runs the engine.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "core/clock.h"
#include "core/log.h"
#include "kv/pack_store.h"
#include "model/model.h"
#include "serve/cloud_client.h"
#include "serve/resident_context.h"

namespace celslm {

struct LoaderOptions {
  std::string codec = "f16";
  int n_connections = 4;                        // blocks of one pack fetched at once
  std::chrono::milliseconds cloud_rest{5'000};  // after a failure the cloud is left alone this long
};

// Thread-safe. Each context that loads has threads of its own; the destructor stops and joins them.
class ContextLoader {
 public:
  // cloud and store may be null: sources that do not exist. The clock must outlive the loader.
  ContextLoader(std::shared_ptr<const Model> model, std::shared_ptr<CloudClient> cloud, std::shared_ptr<PackStore> store,
                const Clock& clock, const LoaderOptions& options, Log log);
  ~ContextLoader();

  // Starts filling `context`, which nobody else fills. Returns at once.
  void load(std::shared_ptr<ResidentContext> context);

 private:
  struct Job {
    std::atomic<bool> done{false};
    std::jthread thread;
  };
  void run(ResidentContext& context, std::stop_token stop);
  Status from_disk(ResidentContext& context, const PackIdentity& identity);
  Status from_cloud(ResidentContext& context, const PackIdentity& identity, std::stop_token stop);
  Status cloud_is_usable() const;
  Error explain(Error error, const PackIdentity& identity);
  PackIdentity identity_of(const ResidentContext& context, const Codec& codec) const;

  const std::shared_ptr<const Model> model_;
  const std::shared_ptr<CloudClient> cloud_;
  const std::shared_ptr<PackStore> store_;
  const Clock& clock_;
  const LoaderOptions options_;
  const Log log_;
  std::atomic<TimePoint::rep> rest_until_{0};  // of clock_'s time
  std::mutex mutex_;
  std::list<Job> jobs_;  // protected by mutex_; finished ones are joined at the next load()
};

}  // namespace celslm
