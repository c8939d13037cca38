#include "serve/wire/process_metrics.h"

#include "core/version.h"
#include "kv/pack/pack.h"

namespace celslm {

void show_build(Metrics& metrics) {
  metrics
      .gauge("celslm_build_info", "1; the labels are what counts.",
             {{"version", std::string(program_version())}, {"pack_version", std::to_string(kPackVersion)}})
      .Set(1);
}

void show_free_disk(Metrics& metrics, std::optional<std::uint64_t> bytes) {
  if (bytes)
    metrics.gauge("celslm_disk_free_bytes", "Bytes free on the disk of the packs.").Set(static_cast<double>(*bytes));
}

}  // namespace celslm
