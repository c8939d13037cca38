// What an edge counts. docs/metrics.md lists the metrics.
#pragma once

#include <string>

#include "serve/batch_loop.h"
#include "serve/generation.h"
#include "serve/metrics.h"
#include "serve/resident_context.h"

namespace celslm {

// Thread-safe.
class EdgeMetrics {
 public:
  void answered(const std::string& route, int status);
  // A request that ended, with what it took.
  void finished(const GenerationRequest& request, const Usage& usage, const GenerationTimes& times);

  // Of the moment: read when the page is made.
  std::string text(const BatchStats& stats, const ContextTable& contexts, std::uint64_t pack_store_bytes);

 private:
  Metrics metrics_;
};

}  // namespace celslm
