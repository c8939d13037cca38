#include "serve/edge/cloud_refresh.h"

#include <algorithm>

namespace celslm {

void CloudRefresh::start(std::chrono::milliseconds interval) {
  if (parts_.cloud) thread_ = std::jthread([this, interval](std::stop_token stop) { run(std::move(stop), interval); });
}

void CloudRefresh::run(std::stop_token stop, std::chrono::milliseconds interval) {
  while (!stop.stop_requested()) {
    if (const Status refreshed = refresh(); refreshed)
      parts_.idle_work.run_once();
    else
      parts_.log->debug("contexts not refreshed: {}", refreshed.error().message);
    const MutexLock lock(mutex_);
    stopped_.wait_for(mutex_, stop, interval, [] { return false; });
  }
}

// The map or the tuning before the contexts: the first request for a context that was just listed must know of it.
Status CloudRefresh::refresh() {
  if ((parts_.mapped || parts_.tuning != Hash256{}) && parts_.cloud) {
    if (const Status asked = refresh_guidance(); !asked)
      parts_.log->debug("the cloud's maps and tunings were not refreshed: {}", asked.error().message);
  }
  CELSLM_CHECK_OK(parts_.directory.refresh());
  parts_.contexts.drop_unless([&](const ContextHandle& handle) { return parts_.directory.contains(handle); });
  (void)parts_.cloud->key();  // now rather than in the first request's time
  return {};
}

Status CloudRefresh::refresh_guidance() {
  CELSLM_TRY(auto models, parts_.cloud->models());
  std::erase_if(models, [&](const HostedModel& hosted) { return hosted.fingerprint != parts_.model->fingerprint(); });
  if (parts_.mapped) {
    const auto it = std::ranges::find_if(models, [](const HostedModel& hosted) { return hosted.map.has_value(); });
    parts_.contexts.offer_map(it == models.end() ? std::nullopt : it->map);
  }
  if (parts_.tuning != Hash256{})
    parts_.contexts.offer_tuning(std::ranges::any_of(
        models, [&](const HostedModel& hosted) { return hosted.tuning && hosted.tuning->id == parts_.tuning; }));
  return {};
}

}  // namespace celslm
