// Fits a layer map to the sums of collect().
#pragma once

#include <functional>
#include <span>

#include "align/fit/collect.h"
#include "align/fit/select.h"
#include "align/map/kv_map.h"

namespace celslm {

struct FitOptions {
  SelectOptions select;
  MapPrecision precision = MapPrecision::kF16;
  std::function<void(int done, int of)> progress;  // called after each target layer; may be empty
};

// `sums` are collect()'s over `documents` and `source_layers`. The map's gate is not judged yet. kInvalid for an option
// outside its range, naming it.
Result<KvMap> fit_map(const ModelFingerprint& source, const ModelFingerprint& target, const CalibrationSums& sums,
                      const std::vector<int>& source_layers, std::span<const Document> documents, const FitOptions& options);

// The distinct hashes of the documents, ascending, as KvMap::calibration stores them.
std::vector<Hash256> hashes_of(std::span<const Document> documents);

// kInvalid, with their number, if any of the documents was used to fit the map.
Status check_no_overlap(const KvMap& map, std::span<const Document> documents);

}  // namespace celslm
