// An edge's metrics; docs/metrics.md lists them.
#pragma once

#include <string>

#include "core/memory_ledger.h"
#include "core/memory_limit.h"
#include "core/mutex.h"
#include "kv/store/pack_store.h"
#include "serve/batch/batch_loop.h"
#include "serve/batch/generation.h"
#include "serve/context/context_table.h"
#include "serve/edge/measured_speed.h"
#include "serve/fleet/fleet_report.h"
#include "serve/load/load_observer.h"
#include "serve/wire/metrics.h"

namespace celslm {

// Thread-safe. What loads do, they report themselves.
class EdgeMetrics final : public LoadObserver {
 public:
  // Counters whose first increase matters are there from the start: Prometheus sees no increase in one that is new.
  EdgeMetrics();

  void received(Source from, std::uint64_t bytes) override;
  void wasted(std::uint64_t bytes) override;
  void completed(const LoadSummary& load) override;
  void refused(Source source) override;

  void answered(const std::string& route, int status);
  // A finished request, with its times.
  void finished(const GenerationRequest& request, const Usage& usage, const GenerationTimes& times);

  // How fast finished requests were.
  MeasuredSpeed& speed() { return speed_; }
  const MeasuredSpeed& speed() const { return speed_; }

  // A request that another node was asked to answer; to: RouteClass; how: ForwardEnd.
  void forwarded(const char* to, const char* how, std::uint64_t bytes);
  // An answer that the cascade judged; by: "small" or "large".
  void judged(const char* by);

  // A context loaded while no request ran; why: "refine" or "prefetch".
  void loaded_idly(const char* why);

  // For an edge that is part of a fleet.
  void fleet(const MemberState& state) { report_fleet(metrics_, state); }
  // Whether the cloud's list could be read at the last try. Not called without a cloud.
  void cloud(bool in_touch);

  // The ledger's accounts, and what the system counts of this process.
  void memory(const MemoryLedger& ledger, const ResidentMemory& resident);

  // The page; gauges have the values given. store may be null; shared_bytes: sent to peers.
  std::string text(const BatchStats& stats, const ContextTable& contexts, const PackStore* store, std::uint64_t shared_bytes)
      CELSLM_EXCLUDES(page_mutex_);

 private:
  prometheus::Counter& refused_by(Source source);
  prometheus::Counter& layers_from(Source source);
  prometheus::Counter& fetched_from(Source source);

  Metrics metrics_;
  MeasuredSpeed speed_;
  Mutex page_mutex_;  // one page at a time: it raises counters to the values of others
};

}  // namespace celslm
