// What an edge counts. docs/metrics.md lists the metrics.
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
  // A request that ended, with what it took.
  void finished(const GenerationRequest& request, const Usage& usage, const GenerationTimes& times);

  // A context loaded while nobody asked for anything.
  void loaded_idly(const char* why);

  // Of the moment: read when the page is made.
  // store may be null; shared_bytes: sent to neighbours.
  std::string text(const BatchStats& stats, const ContextTable& contexts, const PackStore* store,
                   std::uint64_t shared_bytes);

 private:
  void loaded(const ResidentContext::Report& report);
  Metrics metrics_;
};

}  // namespace celslm
