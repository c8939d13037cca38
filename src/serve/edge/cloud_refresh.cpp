#include "serve/edge/cloud_refresh.h"

#include <algorithm>

namespace celslm {

namespace {

using namespace std::chrono_literals;

constexpr Duration kBetweenChanges = 500ms;  // many changes in a row are read together
// What lies between may end a request that waits too long without a word (proxies after a minute, often): the next one is
// shorter.
constexpr std::chrono::seconds kShortestHold = 10s;

}  // namespace

void CloudRefresh::start(const RefreshTimes& times) {
  if (!parts_.cloud) return;
  watcher_ = std::jthread([this, times](const std::stop_token& stop) { watch(stop, times); });
  worker_ = std::jthread([this, times](const std::stop_token& stop) { work_when_idle(stop, times.interval); });
}

void CloudRefresh::pause(const std::stop_token& stop, Duration time) {
  const MutexLock lock(mutex_);
  stopped_.wait_for(mutex_, stop, time, [] { return false; });
}

Duration CloudRefresh::about(Duration time, double low, double high) {
  const double factor = std::uniform_real_distribution(low, high)(chance_);
  return std::chrono::duration_cast<Duration>(time * factor);
}

void CloudRefresh::work_when_idle(const std::stop_token& stop, std::chrono::milliseconds interval) {
  while (!stop.stop_requested()) {
    if (parts_.directory.in_touch()) parts_.idle_work.run_once();
    pause(stop, interval);
  }
}

void CloudRefresh::watch(const std::stop_token& stop, const RefreshTimes& times) {
  std::chrono::seconds longest = times.hold;
  bool can_hold = false;  // the last answer was a list that the cloud can watch
  while (!stop.stop_requested()) {
    const auto hold = can_hold ? std::max(1s, std::chrono::floor<std::chrono::seconds>(about(longest, 0.7, 1.0))) : 0s;
    const TimePoint asked = parts_.clock.now();
    const auto refreshed = refresh({.for_change = hold, .stop = stop});
    const auto took = std::chrono::floor<std::chrono::seconds>(parts_.clock.now() - asked);
    if (stop.stop_requested()) return;
    if (!refreshed && hold > 0s && took >= kShortestHold) {  // what broke may be the wait alone: that is known at once
      longest = std::max(kShortestHold, took / 2);
      can_hold = false;
      continue;
    }
    if (hold > 0s && took >= hold) longest = std::min(times.hold, 2 * longest);
    report(refreshed);
    can_hold = refreshed && refreshed->has_revision && knows_guidance_ && times.hold > 0s;
    pause(stop, can_hold ? pause_between(*refreshed, hold, took, times) : about(times.interval, 0.5, 1.5));
  }
}

// Before a request that the cloud may hold; `hold` and `took` are of the one before.
Duration CloudRefresh::pause_between(const Refreshed& last, std::chrono::seconds hold, std::chrono::seconds took,
                                     const RefreshTimes& times) {
  if (hold == 0s) return 0s;
  if (last.changed) return kBetweenChanges;
  return took > 0s ? 0s : about(times.interval, 0.5, 1.5);  // it was not held: the cloud holds too many
}

// To the log, when it changes.
void CloudRefresh::report(const Result<Refreshed>& refreshed) {
  const bool first = !reachable_.has_value();
  if (reachable_ == refreshed.has_value()) return;
  reachable_ = refreshed.has_value();
  if (!refreshed) parts_.log->warn("the cloud's list of contexts cannot be read: {}", refreshed.error().message);
  if (refreshed && !first) parts_.log->info("the cloud's list of contexts can be read again");
}

// The map or the tuning before the contexts, unless the list is known and only watched: the first request for a context that
// was just listed must know of it. What a cloud offers changes only when it starts again, which changes all of its list.
Result<CloudRefresh::Refreshed> CloudRefresh::refresh(const ContextDirectory::Wait& wait) {
  const bool watching = wait.for_change.count() > 0;
  if (!watching || !knows_guidance_) refresh_guidance();
  CELSLM_TRY(const Refreshed refreshed, parts_.directory.refresh(wait));
  if (watching && refreshed.complete) refresh_guidance();
  parts_.contexts.drop_unless([&](const ContextHandle& handle) { return parts_.directory.contains(handle); });
  // Now rather than in the first request's time. A cloud has another key only after a start, which changes all of its list.
  if (refreshed.complete) {
    (void)parts_.cloud->follow_key();
  } else {
    (void)parts_.cloud->key();
  }
  return refreshed;
}

void CloudRefresh::refresh_guidance() {
  const bool wanted = parts_.cloud && (parts_.mapped || parts_.tuning != Hash256{});
  const Status asked = wanted ? ask_guidance() : Status();
  knows_guidance_ = asked.has_value();
  if (!asked) parts_.log->debug("the cloud's maps and tunings were not refreshed: {}", asked.error().message);
}

Status CloudRefresh::ask_guidance() {
  CELSLM_TRY(auto models, parts_.cloud->models());
  std::erase_if(models,
                [&](const HostedModel& hosted) { return hosted.fingerprint.id() != parts_.model->fingerprint().id(); });
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
