// An edge's metrics; docs/metrics.md lists them.
#pragma once

#include <string>

#include "kv/store/pack_store.h"
#include "serve/batch/batch_loop.h"
#include "serve/batch/generation.h"
#include "serve/context/context_table.h"
#include "serve/wire/metrics.h"

namespace celslm {

// Thread-safe.
class EdgeMetrics {
 public:
  void answered(const std::string& route, int status);
  // A finished request, with its times.
  void finished(const GenerationRequest& request, const Usage& usage, const GenerationTimes& times);

  // A context loaded while no request ran; why: "refine" or "prefetch".
  void loaded_idly(const char* why);

  // The page; gauges have the values given. store may be null; shared_bytes: sent to peers.
  std::string text(const BatchStats& stats, const ContextTable& contexts, const PackStore* store,
                   std::uint64_t shared_bytes);

 private:
  void loaded(const ResidentContext::Report& report);
  Metrics metrics_;
};

}  // namespace celslm
