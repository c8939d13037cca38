#include "align/judge/report.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "align/fit/select.h"

namespace celslm {
namespace {

constexpr int kRounds = 1000;

double ratio(double part, double whole) {
  return whole > 0.0 ? part / whole : 0.0;
}

// One Share a document, of the observations that `value` gives something for.
template <typename F>
std::optional<Interval> interval_of(std::span<const Observation* const> seen, const F& value) {
  std::map<int, Share> documents;
  for (const Observation* o : seen) {
    if (const std::optional<Share> share = value(*o)) {
      documents[o->document].part += share->part;
      documents[o->document].whole += share->whole;
    }
  }
  std::vector<Share> shares;
  shares.reserve(documents.size());
  for (const auto& [number, share] : documents) shares.push_back(share);
  return bootstrap(shares);
}

WayFigures figures_of(const Way& way, std::span<const Observation* const> seen) {
  WayFigures out{.way = way};
  const auto share = [](double part, double whole) { return std::optional(Share{part, whole}); };
  out.kl = interval_of(seen, [&](const Observation& o) { return share(o.kl, o.positions); });
  out.kl_large =
      interval_of(seen, [&](const Observation& o) { return o.kl_large ? share(*o.kl_large, o.positions) : std::nullopt; });
  out.perplexity = interval_of(seen, [&](const Observation& o) { return share(o.surprise, o.positions); });
  if (out.perplexity)
    out.perplexity =
        Interval{std::exp(out.perplexity->value), std::exp(out.perplexity->low), std::exp(out.perplexity->high)};
  out.greedy = interval_of(seen, [&](const Observation& o) { return share(o.greedy, o.greedy_of); });
  const auto right = [&](const Observation& o, int steps) -> std::optional<Share> {
    if (!o.question || (steps != 0 && o.steps != steps)) return std::nullopt;
    return Share{o.right ? 1.0 : 0.0, 1.0};
  };
  out.right = interval_of(seen, [&](const Observation& o) { return right(o, 0); });
  for (const Observation* o : seen) {
    if (o->steps == 0 || out.right_by_steps.contains(o->steps)) continue;
    out.right_by_steps[o->steps] = *interval_of(seen, [&](const Observation& each) { return right(each, o->steps); });
  }
  return out;
}

std::vector<WayFigures> all_figures(const std::vector<Observation>& observations, bool questions) {
  std::map<Way, std::vector<const Observation*>> by_way;
  for (const Observation& o : observations) {
    if (o.question == questions) by_way[o.way].push_back(&o);
  }
  std::vector<WayFigures> out;
  out.reserve(by_way.size());
  for (const auto& [way, seen] : by_way) out.push_back(figures_of(way, seen));
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

// What was chosen, without the numbers.
LayerMap outline(const LayerMap& layer) {
  const auto bare = [](const PlaneMap& plane) {
    return PlaneMap{.sources = plane.sources, .same_head = plane.same_head, .held_out_r2 = plane.held_out_r2};
  };
  return {.k = bare(layer.k), .v = bare(layer.v)};
}

}  // namespace

std::optional<Interval> bootstrap(std::span<const Share> documents) {
  Share all;
  for (const Share& d : documents) {
    all.part += d.part;
    all.whole += d.whole;
  }
  if (all.whole <= 0.0) return std::nullopt;
  std::mt19937_64 random(1);
  std::uniform_int_distribution<std::size_t> any(0, documents.size() - 1);
  std::vector<double> drawn(kRounds);
  for (double& value : drawn) {
    Share sum;
    for (std::size_t i = 0; i < documents.size(); ++i) {
      const Share& d = documents[any(random)];
      sum.part += d.part;
      sum.whole += d.whole;
    }
    value = ratio(sum.part, sum.whole);
  }
  std::ranges::sort(drawn);
  return Interval{ratio(all.part, all.whole), drawn[kRounds / 40], drawn[kRounds - 1 - kRounds / 40]};
}

Report summarise(const KvMap& map, const Judge& judge, const std::vector<Observation>& observations) {
  Report out{.source = map.source, .target = map.target, .map = map.id, .fused = map.fused()};
  for (int last = -1; const Observation& o : observations) {
    if (o.document != last) ++out.n_documents;
    last = o.document;
  }
  out.n_tokens = judge.sums().k.rows();
  out.texts = all_figures(observations, false);
  out.questions = all_figures(observations, true);
  for (const KvVariant variant : kKvVariants) out.fits.push_back(judge.fit(variant));
  if (out.n_tokens > 0) {
    out.cka_k = cka_of(judge.sums().k, map);
    out.cka_v = cka_of(judge.sums().v, map);
  }
  for (const LayerMap& layer : map.layers) out.layers.push_back(outline(layer));
  return out;
}

std::vector<SplitFigures> split_figures(const std::vector<Observation>& observations) {
  const bool has_text = std::ranges::any_of(observations, [](const Observation& o) { return !o.question; });
  std::uint32_t native_right = 0;
  std::map<int, SplitFigures> splits;
  std::map<int, double> positions;
  for (const Observation& o : observations) {
    if (o.way.kind == Way::Kind::kNative && o.right) ++native_right;
    if (o.way.kind != Way::Kind::kVariant || o.way.variant != KvVariant::kMapped) continue;
    SplitFigures& split = splits[o.way.split];
    split.questions += o.question ? 1 : 0;
    split.right += o.right ? 1 : 0;
    if (o.question && has_text) continue;
    split.kl += o.kl;
    positions[o.way.split] += o.positions;
  }
  std::vector<SplitFigures> out;
  for (auto& [number, split] : splits) {
    split.split = number;
    split.native_right = native_right;
    split.kl = ratio(split.kl, positions[number]);
    out.push_back(split);
  }
  return out;
}

}  // namespace celslm
