// Computes packs that are asked for: each once, however many ask, one at a time per model.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/result.h"
#include "serve/cloud/kv_producer.h"
#include "serve/cloud/pack_compute.h"
#include "serve/cloud/pack_job.h"

namespace celslm {

// Told what happens; from any thread, without locks held.
class PackObserver {
 public:
  virtual ~PackObserver() = default;
  virtual void waiting(const HostedModel& /*model*/, int /*packs*/) {}
  virtual void computed(const HostedModel& /*model*/, const PackIdentity& /*identity*/, std::uint64_t /*bytes*/,
                        Duration /*took*/) {}
  virtual void failed(const HostedModel& /*model*/, const Error& /*error*/) {}
};

struct PackJobsOptions {
  int max_waiting = 16;  // packs per model: a queue that grows faster than it is worked off
  int max_open = 16;     // finished packs kept mapped, so that a pack's many block requests parse its header once
};

// The whole pack, or the job that computes it.
using PackAccess = std::variant<StoredPack, std::shared_ptr<PackJob>>;

// Thread-safe. One thread per producer, which alone calls its produce().
class PackJobs {
 public:
  // The producers, storage, key, clock and observer must outlive this.
  PackJobs(std::span<const std::shared_ptr<KvProducer>> producers, PackStorage& storage, const SigningKey& key,
           const Clock& clock, PackObserver& observer, Log log, PackJobsOptions options = {});
  ~PackJobs();  // stop()
  PackJobs(const PackJobs&) = delete;
  PackJobs& operator=(const PackJobs&) = delete;

  // Finds the pack or has it computed. kNotFound: no such model here. kOverloaded: too many are waiting. kIo: it could never
  // be kept. kUnavailable: stopping. A pack whose computation failed earlier is begun anew.
  Result<PackAccess> request(const PackIdentity& identity);
  // The same, but never begins anything: kNotFound when nothing computes or holds it.
  Result<PackAccess> lookup(const Hash256& pack_id);

  // Ends all computations; who waits for them gets kCancelled. Idempotent.
  void stop();

 private:
  struct Worker {
    std::shared_ptr<KvProducer> producer;
    std::deque<std::shared_ptr<PackJob>> queue;  // guarded by PackJobs::mutex_
    std::jthread thread;
  };
  struct Open {
    Hash256 pack_id;
    StoredPack pack;
  };

  Worker* worker_of(const PackIdentity& identity);
  Result<std::shared_ptr<PackJob>> begin(Worker& worker, const PackIdentity& identity, const Hash256& pack_id);
  void work(Worker& worker, std::stop_token stop);
  void compute(Worker& worker, const std::shared_ptr<PackJob>& job, std::stop_token stop);
  Result<StoredPack> run(KvProducer& producer, PackJob& job, std::stop_token stop);
  Result<StoredPack> find_stored(const Hash256& pack_id);         // with mutex_ held
  void remember(const Hash256& pack_id, const StoredPack& pack);  // with mutex_ held

  PackStorage& storage_;
  const SigningKey& key_;
  const Clock& clock_;
  PackObserver& observer_;
  const Log log_;
  const PackJobsOptions options_;

  std::mutex mutex_;
  std::condition_variable_any queued_;
  bool stopping_ = false;                                       // guarded by mutex_, as all below
  std::unordered_map<Hash256, std::shared_ptr<PackJob>> jobs_;  // by pack id; those that have not ended
  std::deque<Open> open_;                                       // most recently used first
  std::vector<std::unique_ptr<Worker>> workers_;                // the list itself is constant after construction
};

}  // namespace celslm
