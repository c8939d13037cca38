#include "serve/load/load_workers.h"

#include <exception>
#include <utility>

namespace celslm {

LoadWorkers::LoadWorkers(const Limits& limits, Spawn spawn, Log log)
    : limits_(limits), spawn_(std::move(spawn)), log_(std::move(log)) {}

LoadWorkers::~LoadWorkers() {
  std::vector<std::jthread> threads;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
  }
  more_.notify_all();
}

std::uint64_t LoadWorkers::next_number() {
  const MutexLock lock(mutex_);
  return ++last_number_;
}

std::size_t LoadWorkers::threads() const {
  const MutexLock lock(mutex_);
  return threads_.size();
}

// One for the place that is about to be taken, beside those for the places that are.
Status LoadWorkers::have_thread() {
  if (threads_.size() > n_taken_) return {};
  auto thread = spawn_([this](const std::stop_token&) { work(); });
  if (thread) {
    threads_.push_back(*std::move(thread));
    return {};
  }
  if (!std::exchange(short_of_threads_, true))
    log_->warn("loads have {} threads and cannot get more: {}", threads_.size(), thread.error().message);
  return std::unexpected(std::move(thread).error());
}

Result<bool> LoadWorkers::take(LoadWork work, std::uint64_t number, std::function<void()> freed) {
  const auto place = static_cast<std::size_t>(work);
  const MutexLock lock(mutex_);
  if (taken_[place] < limits_[place]) {
    const Status ready = have_thread();
    if (!ready && threads_.empty()) return std::unexpected(ready.error());
    if (ready) {
      ++taken_[place];
      ++n_taken_;
      return true;
    }
  }
  waiting_[place].insert_or_assign(number, std::move(freed));
  return false;
}

// The caller may hold locks that those who wait need: they are told by another thread.
void LoadWorkers::put_back(LoadWork work) {
  const auto place = static_cast<std::size_t>(work);
  const MutexLock lock(mutex_);
  --taken_[place];
  --n_taken_;
  if (waiting_[place].empty() && !short_of_threads_) return;
  jobs_.push_back({.place = {}, .run = [this, place] { offer_instead_of(place); }});
  more_.notify_one();
}

void LoadWorkers::run(LoadWork work, std::function<void()> job) {
  const MutexLock lock(mutex_);
  jobs_.push_back({.place = static_cast<std::size_t>(work), .run = std::move(job)});
  more_.notify_one();
}

void LoadWorkers::work() {
  MutexLock lock(mutex_);
  for (;;) {
    more_.wait(mutex_, [&]() CELSLM_REQUIRES(mutex_) { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    carry_out(std::move(job));
    lock.lock();
  }
}

void LoadWorkers::carry_out(Job job) {
  try {
    job.run();
  } catch (const std::exception& error) {  // of a single load: the others go on
    log_->error("work on a load ended with: {}", error.what());
  }
  job.run = {};
  if (!job.place) return;
  {
    const MutexLock lock(mutex_);
    --taken_[*job.place];
    --n_taken_;
  }
  offer_instead_of(*job.place);
}

// The place that is free again; or any, where it was a thread that was missing.
void LoadWorkers::offer_instead_of(std::size_t place) {
  offer(place);
  {
    const MutexLock lock(mutex_);
    if (!short_of_threads_) return;
  }
  for (std::size_t other = 0; other < kLoadWorks; ++other) {
    if (other != place) offer(other);
  }
}

// To those who wait, each once: one that is refused again waits for the next time.
void LoadWorkers::offer(std::size_t index) {
  Waiting waiting;
  {
    const MutexLock lock(mutex_);
    waiting.swap(waiting_[index]);
  }
  for (auto it = waiting.begin(); it != waiting.end(); it = waiting.erase(it)) {
    {
      const MutexLock lock(mutex_);
      if (taken_[index] >= limits_[index]) {
        waiting_[index].merge(waiting);
        return;
      }
    }
    it->second();
  }
}

}  // namespace celslm
