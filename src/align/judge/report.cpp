#include "align/judge/report.h"

#include <algorithm>
#include <cmath>

#include "align/fit/select.h"

namespace celslm {
namespace {

double ratio(double numerator, double denominator) {
  return denominator > 0.0 ? numerator / denominator : 0.0;
}

// An observation's contribution to a mean of ratios: sum of numerators / sum of denominators.
struct Ratio {
  double numerator = 0.0;
  double denominator = 0.0;
};

// The mean of a metric over the observations for which `value` returns a Ratio; empty if there are none.
template <typename F>
std::optional<double> mean_of(std::span<const Observation* const> seen, const F& value) {
  Ratio sum;
  for (const Observation* o : seen) {
    if (const std::optional<Ratio> one = value(*o)) {
      sum.numerator += one->numerator;
      sum.denominator += one->denominator;
    }
  }
  return sum.denominator > 0.0 ? std::optional(sum.numerator / sum.denominator) : std::nullopt;
}

ConditionMetrics metrics_of(const Condition& condition, std::span<const Observation* const> seen) {
  ConditionMetrics out{.condition = condition};
  const auto ratio_of = [](double numerator, double denominator) { return std::optional(Ratio{numerator, denominator}); };
  out.kl = mean_of(seen, [&](const Observation& o) { return ratio_of(o.kl, o.positions); });
  out.kl_large =
      mean_of(seen, [&](const Observation& o) { return o.kl_large ? ratio_of(*o.kl_large, o.positions) : std::nullopt; });
  out.perplexity = mean_of(seen, [&](const Observation& o) { return ratio_of(o.nll, o.positions); });
  if (out.perplexity) out.perplexity = std::exp(*out.perplexity);
  out.greedy = mean_of(seen, [&](const Observation& o) { return ratio_of(o.greedy_matches, o.native_tokens); });
  const auto right = [&](const Observation& o, int steps) -> std::optional<Ratio> {
    if (!o.question || (steps != 0 && o.steps != steps)) return std::nullopt;
    return Ratio{o.right ? 1.0 : 0.0, 1.0};
  };
  out.right = mean_of(seen, [&](const Observation& o) { return right(o, 0); });
  for (const Observation* o : seen) {
    if (o->steps == 0 || out.right_by_steps.contains(o->steps)) continue;
    out.right_by_steps[o->steps] = *mean_of(seen, [&](const Observation& each) { return right(each, o->steps); });
  }
  return out;
}

std::vector<ConditionMetrics> metrics_by_condition(const std::vector<Observation>& observations, bool questions) {
  std::map<Condition, std::vector<const Observation*>> by_condition;
  for (const Observation& o : observations) {
    if (o.question == questions) by_condition[o.condition].push_back(&o);
  }
  std::vector<ConditionMetrics> out;
  out.reserve(by_condition.size());
  for (const auto& [condition, seen] : by_condition) out.push_back(metrics_of(condition, seen));
  return out;
}

std::vector<std::vector<double>> cka_of(const Gram& gram, const KvMap& map) {
  const PlaneData data{.fit = gram, .held_out = gram, .source_layers = {}, .source = map.source, .target = map.target};
  std::vector<std::vector<double>> out;
  for (int target = 0; target < map.target.n_layers; ++target) {
    std::vector<double>& row = out.emplace_back();
    for (int source = 0; source < map.source.n_layers; ++source) row.push_back(linear_cka(gram, data, source, target));
  }
  return out;
}

// The choices of a layer's map, without the matrices.
LayerMap outline(const LayerMap& layer) {
  const auto bare = [](const PlaneMap& plane) {
    return PlaneMap{.sources = plane.sources, .same_head = plane.same_head, .held_out_r2 = plane.held_out_r2};
  };
  return {.k = bare(layer.k), .v = bare(layer.v)};
}

}  // namespace

Report summarise(const KvMap& map, const Judge& judge, const std::vector<Observation>& observations) {
  Report out{.source = map.source, .target = map.target, .map = map.id, .fused = map.fused(), .observations = observations};
  for (int last = -1; const Observation& o : observations) {
    if (o.document != last) ++out.n_documents;
    last = o.document;
  }
  out.n_tokens = judge.sums().k.rows();
  out.texts = metrics_by_condition(observations, false);
  out.questions = metrics_by_condition(observations, true);
  for (const KvVariant variant : kKvVariants) out.fits.push_back(judge.fit(variant));
  if (out.n_tokens > 0) {
    out.cka_k = cka_of(judge.sums().k, map);
    out.cka_v = cka_of(judge.sums().v, map);
  }
  for (const LayerMap& layer : map.layers) out.layers.push_back(outline(layer));
  return out;
}

std::vector<SplitMetrics> split_metrics(const std::vector<Observation>& observations) {
  const bool has_text = std::ranges::any_of(observations, [](const Observation& o) { return !o.question; });
  std::uint32_t native_right = 0;
  std::map<int, SplitMetrics> splits;
  std::map<int, double> positions;
  for (const Observation& o : observations) {
    if (o.condition.kind == Condition::Kind::kNative && o.right) ++native_right;
    if (o.condition.kind != Condition::Kind::kVariant || o.condition.variant != KvVariant::kMapped) continue;
    SplitMetrics& split = splits[o.condition.split];
    split.questions += o.question ? 1 : 0;
    split.right += o.right ? 1 : 0;
    if (o.question && has_text) continue;
    split.kl += o.kl;
    positions[o.condition.split] += o.positions;
  }
  std::vector<SplitMetrics> out;
  for (auto& [number, split] : splits) {
    split.split = number;
    split.native_right = native_right;
    split.kl = ratio(split.kl, positions[number]);
    out.push_back(split);
  }
  return out;
}

}  // namespace celslm
