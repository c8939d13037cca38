#include "serve/cloud/pack_jobs.h"

#include <fmt/format.h>

#include <algorithm>

namespace celslm {
namespace {

using namespace std::chrono_literals;

// How often a long computation logs its progress.
constexpr Duration kProgressInterval = 2s;

std::string describe(const PackIdentity& identity, const HostedModel& model) {
  const auto codec = find_codec(identity.codec);
  return fmt::format("context {} ({} tokens) for {} as {}", identity.context.hex().substr(0, 12), identity.n_tokens(),
                     model.name, codec ? (*codec)->name() : "?");
}

}  // namespace

PackJobs::PackJobs(std::span<const std::shared_ptr<KvProducer>> producers, PackStorage& storage, const SigningKey& key,
                   const Clock& clock, PackObserver& observer, Log log, PackJobsOptions options)
    : storage_(storage), key_(key), clock_(clock), observer_(observer), log_(std::move(log)), options_(std::move(options)) {
  for (const auto& producer : producers) workers_.push_back(std::make_unique<Worker>(producer));
  for (const auto& worker : workers_) {
    worker->thread = std::jthread([this, &worker = *worker](std::stop_token stop) { work(worker, stop); });
  }
}

PackJobs::~PackJobs() {
  stop();
}

PackJobs::Worker* PackJobs::worker_of(const PackIdentity& identity) {
  const auto it = std::ranges::find_if(workers_, [&](const auto& w) {
    const HostedModel& hosted = w->producer->model();
    return hosted.fingerprint == identity.model && made_with(hosted) == made_with(identity);
  });
  return it == workers_.end() ? nullptr : it->get();
}

Result<PackAccess> PackJobs::request(const PackIdentity& identity) {
  Worker* worker = worker_of(identity);
  if (worker == nullptr)
    return fail(ErrorKind::kNotFound, "no model {} {} is hosted here", identity.model.id().hex(),
                describe(made_with(identity)));
  const Hash256 pack_id = identity.id();
  int waiting = 0;
  bool is_behind_others = false;
  std::shared_ptr<PackJob> job;
  {
    // The store is asked with the lock held: a pack is at any time either among the jobs or in the store, and nobody may
    // look into one before and into the other after it has moved.
    const MutexLock lock(mutex_);
    if (const auto it = jobs_.find(pack_id); it != jobs_.end()) return it->second;
    if (auto stored = find_stored(pack_id)) return *std::move(stored);
    is_behind_others = std::ranges::any_of(jobs_, [&](const auto& j) { return worker_of(j.second->identity) == worker; });
    CELSLM_TRY(job, begin(*worker, identity, pack_id));
    waiting = static_cast<int>(queues_[worker].size());
  }
  queued_.notify_all();
  observer_.waiting(worker->producer->model(), waiting);
  if (is_behind_others && options_.on_wait) options_.on_wait(identity);
  return job;
}

Result<PackAccess> PackJobs::lookup(const Hash256& pack_id) {
  const MutexLock lock(mutex_);
  if (const auto it = jobs_.find(pack_id); it != jobs_.end()) return it->second;
  if (const StoredPack* open = open_.find(pack_id); open && open->complete()) return *open;
  if (auto stored = find_stored(pack_id)) return *std::move(stored);
  return fail(ErrorKind::kNotFound, "nothing computes or holds pack {}: ask for its header first", pack_id.hex());
}

Result<StoredPack> PackJobs::find_stored(const Hash256& pack_id) {
  auto stored = storage_.find(pack_id);
  if (stored) {
    remember(pack_id, *stored);
  } else if (stored.error().kind != ErrorKind::kNotFound) {
    log_->warn("{}; it will be computed again", stored.error().message);
  }
  return stored;
}

void PackJobs::remember(const Hash256& pack_id, const StoredPack& pack) {
  open_.put(pack_id, pack);
  if (open_.size() > static_cast<std::size_t>(options_.max_open)) open_.evict();
}

Result<std::shared_ptr<PackJob>> PackJobs::begin(Worker& worker, const PackIdentity& identity, const Hash256& pack_id) {
  if (stopping_) return fail(ErrorKind::kUnavailable, "the cloud is shutting down");
  if (const std::uint64_t size = header_bytes(identity) + block_region_bytes(identity).most;
      size > storage_.budget_bytes()) {
    return fail(ErrorKind::kIo,
                "the pack has {} bytes, more than all that may be kept ({}): raise the cloud's --pack-budget", size,
                storage_.budget_bytes());
  }
  Queue& queue = queues_[&worker];
  if (queue.size() >= static_cast<std::size_t>(options_.max_waiting)) {
    return fail(ErrorKind::kOverloaded, "{} packs are waiting to be computed for {}: try again later", queue.size(),
                worker.producer->model().name);
  }
  auto job = std::make_shared<PackJob>(identity, pack_id, encode_preamble(identity, key_));
  jobs_.emplace(pack_id, job);
  queue.push_back(job);
  return job;
}

void PackJobs::work(Worker& worker, std::stop_token stop) {
  const auto has_job = [&]() CELSLM_REQUIRES(mutex_) { return !queues_[&worker].empty(); };
  while (true) {
    std::shared_ptr<PackJob> job;
    int waiting = 0;
    {
      const MutexLock lock(mutex_);
      if (!queued_.wait(mutex_, stop, has_job) || stop.stop_requested()) return;
      Queue& queue = queues_[&worker];
      job = std::move(queue.front());
      queue.pop_front();
      waiting = static_cast<int>(queue.size());
    }
    observer_.waiting(worker.producer->model(), waiting);
    compute(worker, job, stop);
  }
}

void PackJobs::compute(Worker& worker, const std::shared_ptr<PackJob>& job, std::stop_token stop) {
  const HostedModel& model = worker.producer->model();
  const TimePoint start = clock_.now();
  auto stored = fetch(model, *job, stop);
  const bool is_fetched = stored.has_value();
  if (!is_fetched) {
    log_->info("computing {}", describe(job->identity, model));
    stored = run(*worker.producer, *job, stop);
  }
  {
    const MutexLock lock(mutex_);
    jobs_.erase(job->pack_id);
    if (stored) remember(job->pack_id, *stored);
  }
  const Duration took = clock_.now() - start;
  // The observer is notified before the waiting readers, so that a reader that has the pack finds it counted.
  if (is_fetched) {
    job->complete(*std::move(stored));
  } else if (stored) {
    const std::uint64_t bytes = stored->header.block_region_bytes();
    log_->info("computed {}: {:.1f} MB in {:.2f} s, {:.0f} tokens/s", describe(job->identity, model),
               static_cast<double>(bytes) / 1e6, seconds(took), job->identity.n_tokens() / std::max(seconds(took), 1e-9));
    observer_.computed(model, job->identity, bytes, took);
    const StoredPack pack = *std::move(stored);
    job->complete(pack);
    if (options_.on_computed) options_.on_computed(pack);
  } else {
    const auto level = stored.error().kind == ErrorKind::kCancelled ? spdlog::level::info : spdlog::level::warn;
    log_->log(level, "did not compute {}: {}", describe(job->identity, model), stored.error().message);
    observer_.failed(model, stored.error());
    job->fail(std::move(stored).error());
  }
  if (options_.on_job_end) options_.on_job_end();
}

std::vector<PackJobs::Listed> PackJobs::list() {
  std::vector<Listed> out;
  const MutexLock lock(mutex_);
  for (const auto& [id, job] : jobs_) {
    const bool waits = std::ranges::any_of(queues_, [&](const auto& q) { return std::ranges::contains(q.second, job); });
    out.push_back({.job = job, .waiting = waits});
  }
  return out;
}

bool PackJobs::idle() {
  const MutexLock lock(mutex_);
  return jobs_.empty();
}

Result<StoredPack> PackJobs::fetch(const HostedModel& model, PackJob& job, std::stop_token stop) {
  if (!options_.fetch) return fail(ErrorKind::kNotFound, "there is nobody to ask");
  auto stored = options_.fetch(job, stop);
  if (!stored) {
    if (stored.error().kind != ErrorKind::kNotFound)
      log_->info("did not fetch {}: {}", describe(job.identity, model), stored.error().message);
    return stored;
  }
  const std::uint64_t bytes = stored->header.block_region_bytes();
  log_->info("fetched {} from another cloud: {:.1f} MB", describe(job.identity, model), static_cast<double>(bytes) / 1e6);
  observer_.fetched(model, bytes);
  return stored;
}

Result<StoredPack> PackJobs::run(KvProducer& producer, PackJob& job, std::stop_token stop) {
  TimePoint shown = clock_.now();
  const auto progress = [&](int layer) {
    log_->debug("layer {} of {} for {}", layer + 1, job.identity.model.n_layers, describe(job.identity, producer.model()));
    if (clock_.now() - shown < kProgressInterval) return;
    shown = clock_.now();
    log_->info("layer {} of {} for {}", layer + 1, job.identity.model.n_layers, describe(job.identity, producer.model()));
  };
  return compute_pack(job, producer, storage_, key_, stop, progress);
}

void PackJobs::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  for (const auto& worker : workers_) worker->thread.request_stop();
  for (const auto& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
  std::unordered_map<Hash256, std::shared_ptr<PackJob>> left;  // those that were still waiting for their turn
  {
    const MutexLock lock(mutex_);
    left.swap(jobs_);
    queues_.clear();
  }
  for (const auto& [id, job] : left) job->fail({ErrorKind::kCancelled, "the cloud is shutting down"});
}

}  // namespace celslm
