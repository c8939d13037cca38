#include "align/fit/fit.h"

#include <algorithm>

namespace celslm {
namespace {

Status check_options(const SelectOptions& options) {
  if (options.max_sources < 1 || options.max_sources > static_cast<int>(kMaxMapSources)) {
    return fail(ErrorKind::kInvalid, "max_sources is {}; expected 1 to {}", options.max_sources, kMaxMapSources);
  }
  if (!(options.lambda > 0.0)) return fail(ErrorKind::kInvalid, "lambda is {}; expected more than 0", options.lambda);
  if (options.rank < 0) return fail(ErrorKind::kInvalid, "rank is {}; expected 0 (full matrices) or more", options.rank);
  if (options.candidates < 1) return fail(ErrorKind::kInvalid, "candidates is {}; expected at least 1", options.candidates);
  if (!options.all_heads && !options.same_head)
    return fail(ErrorKind::kInvalid, "neither all-heads nor same-head maps are allowed; allow at least one");
  return {};
}

}  // namespace

Result<KvMap> fit_map(const ModelFingerprint& source, const ModelFingerprint& target, const CalibrationSums& sums,
                      const std::vector<int>& source_layers, std::span<const Document> documents,
                      const FitOptions& options) {
  CELSLM_CHECK_OK(check_options(options.select));
  KvMap out{.source = map_model(source),
            .target = map_model(target),
            .precision = options.precision,
            .lambda = options.select.lambda,
            .calibration = hashes_of(documents)};
  const PlaneData k{sums.fit.k, sums.held_out.k, source_layers, out.source, out.target};
  const PlaneData v{sums.fit.v, sums.held_out.v, source_layers, out.source, out.target};
  for (int layer = 0; layer < out.target.n_layers; ++layer) {
    out.layers.push_back({.k = fit_plane(k, layer, options.select), .v = fit_plane(v, layer, options.select)});
    if (options.progress) options.progress(layer + 1, out.target.n_layers);
  }
  CELSLM_CHECK_OK(check_map(out));
  return out;
}

std::vector<Hash256> hashes_of(std::span<const Document> documents) {
  std::vector<Hash256> out;
  for (const Document& document : documents) out.push_back(document.hash);
  std::ranges::sort(out);
  out.erase(std::ranges::unique(out).begin(), out.end());
  return out;
}

Status check_no_overlap(const KvMap& map, std::span<const Document> documents) {
  const auto shared = std::ranges::count_if(
      documents, [&](const Document& document) { return std::ranges::binary_search(map.calibration, document.hash); });
  if (shared == 0) return {};
  return fail(ErrorKind::kInvalid, "{} of {} documents are among those that the map was fitted on; judge it on other texts",
              shared, documents.size());
}

}  // namespace celslm
