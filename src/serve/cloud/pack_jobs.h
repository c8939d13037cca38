// Computes packs on request: each once, however many requests there are, and one at a time per model.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <stop_token>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/lru.h"
#include "core/mutex.h"
#include "core/result.h"
#include "serve/cloud/kv_producer.h"
#include "serve/cloud/pack_compute.h"
#include "serve/cloud/pack_job.h"

namespace celslm {

// Is notified of events; from any thread, without locks held.
class PackObserver {
 public:
  virtual ~PackObserver() = default;
  virtual void waiting(const HostedModel& /*model*/, int /*packs*/) {}
  virtual void computed(const HostedModel& /*model*/, const PackIdentity& /*identity*/, std::uint64_t /*bytes*/,
                        Duration /*took*/) {}
  virtual void fetched(const HostedModel& /*model*/, std::uint64_t /*bytes*/) {}
  virtual void failed(const HostedModel& /*model*/, const Error& /*error*/) {}
};

struct PackJobsOptions {
  int max_waiting = 16;  // packs per model; further requests are refused with kOverloaded
  int max_open = 16;     // finished packs kept mapped, so that a pack's many block requests parse its header once
  // Has a job's pack from elsewhere, and announces all of it: tried before it is computed. kNotFound where nobody has it;
  // after any error it is computed. May be empty.
  std::function<Result<StoredPack>(PackJob& job, std::stop_token stop)> fetch;
  // A pack that was computed here, after those who wait for it have it; must not wait. May be empty.
  std::function<void(const StoredPack&)> on_computed;
  // A pack that has to wait for others of its model before it is computed; without locks held. May be empty.
  std::function<void(const PackIdentity&)> on_wait;
  std::function<void()> on_job_end;  // after each, however it ended; without locks held; may be empty
};

// The complete pack, or the job that computes it.
using PackAccess = std::variant<StoredPack, std::shared_ptr<PackJob>>;

// Thread-safe. One thread per producer, the only one that calls its produce().
class PackJobs {
 public:
  // The producers, storage, key, clock and observer must outlive this.
  PackJobs(std::span<const std::shared_ptr<KvProducer>> producers, PackStorage& storage, const SigningKey& key,
           const Clock& clock, PackObserver& observer, Log log, PackJobsOptions options = {});
  ~PackJobs();  // stop()
  PackJobs(const PackJobs&) = delete;
  PackJobs& operator=(const PackJobs&) = delete;

  // Finds the pack or starts its computation. kNotFound: no such model here. kOverloaded: too many packs wait. kIo: it does
  // not fit the disk budget. kUnavailable: stopping. A pack whose computation failed earlier is computed again.
  Result<PackAccess> request(const PackIdentity& identity);
  // The same without starting anything: kNotFound if the pack is neither stored nor being computed.
  Result<PackAccess> lookup(const Hash256& pack_id);

  struct Listed {
    std::shared_ptr<PackJob> job;
    bool waiting = false;  // for its turn
  };
  // The jobs that have not ended.
  std::vector<Listed> list();

  // Whether nothing is computed and nothing waits for that.
  bool idle();

  // Ends all computations; waiting readers get kCancelled. Idempotent.
  void stop();

 private:
  struct Worker {
    std::shared_ptr<KvProducer> producer;
    std::jthread thread;
  };
  using Queue = std::deque<std::shared_ptr<PackJob>>;

  Worker* worker_of(const PackIdentity& identity);
  Result<std::shared_ptr<PackJob>> begin(Worker& worker, const PackIdentity& identity, const Hash256& pack_id)
      CELSLM_REQUIRES(mutex_);
  void work(Worker& worker, std::stop_token stop);
  void compute(Worker& worker, const std::shared_ptr<PackJob>& job, std::stop_token stop);
  Result<StoredPack> fetch(const HostedModel& model, PackJob& job, std::stop_token stop);
  Result<StoredPack> run(KvProducer& producer, PackJob& job, std::stop_token stop);
  Result<StoredPack> find_stored(const Hash256& pack_id) CELSLM_REQUIRES(mutex_);
  void remember(const Hash256& pack_id, const StoredPack& pack) CELSLM_REQUIRES(mutex_);

  PackStorage& storage_;
  const SigningKey& key_;
  const Clock& clock_;
  PackObserver& observer_;
  const Log log_;
  const PackJobsOptions options_;

  std::vector<std::unique_ptr<Worker>> workers_;  // constant after construction

  Mutex mutex_;
  ConditionVariable queued_;
  bool stopping_ CELSLM_GUARDED_BY(mutex_) = false;
  // By pack id; those that have not ended.
  std::unordered_map<Hash256, std::shared_ptr<PackJob>> jobs_ CELSLM_GUARDED_BY(mutex_);
  std::unordered_map<const Worker*, Queue> queues_ CELSLM_GUARDED_BY(mutex_);  // those that wait for their turn
  Lru<Hash256, StoredPack> open_ CELSLM_GUARDED_BY(mutex_);                    // by pack id
};

}  // namespace celslm
