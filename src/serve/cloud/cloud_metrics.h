// A cloud's metrics; docs/metrics.md lists them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/mutex.h"
#include "net/http_types.h"
#include "serve/cloud/pack_jobs.h"
#include "serve/fleet/fleet_report.h"
#include "serve/wire/metrics.h"

namespace celslm {

// Thread-safe.
class CloudMetrics final : public PackObserver {
 public:
  void waiting(const HostedModel& model, int packs) override;
  void computed(const HostedModel& model, const PackIdentity& identity, std::uint64_t bytes, Duration took) override;
  void fetched(const HostedModel& model, std::uint64_t bytes) override;
  void failed(const HostedModel& model, const Error& error) override;

  void answered(const std::string& route, int status);
  void sent(const std::string& part, std::size_t bytes);

  // Of packs' contexts, as measured of those computed last; 0: of none.
  double prefill_tokens_per_s() const CELSLM_EXCLUDES(rate_mutex_);
  // For a cloud that is part of a fleet.
  void fleet(const MemberState& state) { report_fleet(metrics_, state); }

  // Of self-study: a study that ended, and what one round of it came to. outcome: "finished", "failed".
  void studied(const std::string& model, const char* outcome);
  void study_round(const std::string& model, std::int64_t tokens, std::size_t questions);

  void free_disk(std::optional<std::uint64_t> bytes);

  // The page; gauges have the values given.
  std::string text(std::size_t contexts, std::uint64_t pack_store_bytes, std::uint64_t pack_budget_bytes);

 private:
  Metrics metrics_;
  mutable Mutex rate_mutex_;
  double token_s_ CELSLM_GUARDED_BY(rate_mutex_) = 0;
};

// The handler, each of whose answers is counted under `route`. The metrics must outlive it.
HttpHandler counted(CloudMetrics& metrics, std::string route, HttpHandler handler);

}  // namespace celslm
