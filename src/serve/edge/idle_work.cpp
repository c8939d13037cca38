#include "serve/edge/idle_work.h"

#include <fmt/format.h>

namespace celslm {

IdleWork::IdleWork(const EdgeOptions& options, ContextDirectory& directory, ContextMemory& contexts, EdgeMetrics& metrics,
                   std::function<bool()> requests_running, Popular popular)
    : best_codec_(*options.load.codecs.rungs().front().codec),
      refine_(options.refine),
      max_prefetched_(options.max_prefetched),
      directory_(directory),
      contexts_(contexts),
      metrics_(metrics),
      requests_running_(std::move(requests_running)),
      popular_(std::move(popular)) {}

void IdleWork::run_once() {
  const MutexLock lock(mutex_);
  if (requests_running_() || contexts_.loading() || refine_one()) return;
  prefetch_one();
}

bool IdleWork::refine_one() {
  if (!refine_ || !best_codec_.exact_for()) return false;
  for (const auto& coarse : contexts_.table().all()) {
    const std::string codec = coarse->report().codec;
    if (!coarse->complete() || codec == best_codec_.name() || find_codec(codec).value()->exact_for()) continue;
    const CodecChoice exact{&best_codec_, fmt::format("replaced {} while no request ran", codec)};
    if (contexts_.reload(coarse, exact, [this] { metrics_.loaded_idly("refine"); })) return true;
  }
  return false;
}

std::optional<ContextHandle> IdleWork::next_to_prefetch() const {
  const auto is_new = [&](const ContextHandle& handle) CELSLM_REQUIRES(mutex_) {
    return !considered_.contains(handle) && !contexts_.table().find(handle);
  };
  const auto popular = popular_();
  if (!popular) return std::nullopt;
  for (const ContextHandle& handle : *popular) {
    if (directory_.contains(handle) && is_new(handle)) return handle;
  }
  return directory_.find(is_new);
}

void IdleWork::prefetch_one() {
  if (n_prefetched_ >= max_prefetched_) return;
  const auto next = next_to_prefetch();
  if (!next) return;
  considered_.insert(*next);
  const std::string tenant = directory_.tenant_of(*next).value_or("");
  const auto text = directory_.text(*next, tenant);
  // Contexts that requests have used are not evicted for one that none has asked for yet.
  if (!text || !contexts_.fits(*text, tenant) || !contexts_.acquire(*text, tenant)) return;
  ++n_prefetched_;
  metrics_.loaded_idly("prefetch");
}

}  // namespace celslm
