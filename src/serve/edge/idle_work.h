// What an edge does while no request runs: it loads registered contexts in advance, and replaces KV that came by an
// approximate codec by exact KV.
#pragma once

#include <functional>
#include <optional>
#include <unordered_set>
#include <vector>

#include "core/mutex.h"
#include "serve/edge/context_directory.h"
#include "serve/edge/context_memory.h"
#include "serve/edge/edge_metrics.h"
#include "serve/edge/edge_options.h"

namespace celslm {

// Thread-safe, without threads of its own; its references must outlive it.
class IdleWork {
 public:
  // What others use, to be loaded in advance before all else and in this order; where it is empty, chance decides. Nothing:
  // it is not known yet, and until then nothing is loaded in advance.
  using Popular = std::function<std::optional<std::vector<ContextHandle>>()>;

  // requests_running: whether any request runs or waits.
  IdleWork(const EdgeOptions& options, ContextDirectory& directory, ContextMemory& contexts, EdgeMetrics& metrics,
           std::function<bool()> requests_running, Popular popular);

  // Starts to load one context, if there is one to load and neither requests nor other loads are under way.
  void run_once() CELSLM_EXCLUDES(mutex_);

 private:
  bool refine_one();
  void prefetch_one() CELSLM_REQUIRES(mutex_);
  std::optional<ContextHandle> next_to_prefetch() const CELSLM_REQUIRES(mutex_);

  const Codec& best_codec_;
  const bool refine_;
  const int max_prefetched_;
  ContextDirectory& directory_;
  ContextMemory& contexts_;
  EdgeMetrics& metrics_;
  const std::function<bool()> requests_running_;
  const Popular popular_;
  Mutex mutex_;
  int n_prefetched_ CELSLM_GUARDED_BY(mutex_) = 0;
  std::unordered_set<ContextHandle> considered_ CELSLM_GUARDED_BY(mutex_);  // for prefetching, once each
};

}  // namespace celslm
