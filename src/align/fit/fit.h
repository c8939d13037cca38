// Makes a layer map out of what collect() summed up.
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
  std::function<void(int done, int of)> progress;  // target layers; may be empty
};

// Not judged yet. kInvalid for options outside their ranges, named.
Result<KvMap> fit_map(const ModelFingerprint& source, const ModelFingerprint& target, const Collected& sums,
                      const std::vector<int>& source_layers, std::span<const Document> documents, const FitOptions& options);

// The documents' hashes, ascending: what a map remembers of its calibration texts.
std::vector<Hash256> hashes_of(std::span<const Document> documents);

// kInvalid if any document is one of the map's calibration texts, saying how many are: held-out means held-out.
Status check_no_overlap(const KvMap& map, std::span<const Document> documents);

}  // namespace celslm
