// Summarises the observations of a judgement: means with confidence intervals, the correspondence of layers, and the
// measurements that the gate decides on.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "align/judge/judge.h"

namespace celslm {

// A mean with its 95 % confidence interval.
struct Interval {
  double value = 0.0;
  double low = 0.0;
  double high = 0.0;
};

// A document's contribution to a mean of ratios: sum of numerators / sum of denominators over documents.
struct Ratio {
  double numerator = 0.0;
  double denominator = 0.0;
};

// Percentile bootstrap: documents are drawn with replacement 1,000 times. Deterministic: the seed is fixed. Empty if all
// denominators are 0.
std::optional<Interval> bootstrap(std::span<const Ratio> documents);

// The metrics of one condition, over plain texts or over questions.
struct ConditionMetrics {
  Condition condition;
  std::optional<Interval> kl;          // D(native || this), nats a token
  std::optional<Interval> kl_large;    // D(large model || this), nats a token; absent if the tokenizers differ
  std::optional<Interval> perplexity;  // of the forced tokens
  std::optional<Interval> greedy;      // share of the native greedy continuation reproduced, up to the first mismatch
  std::optional<Interval> right;       // share of questions answered correctly
  std::map<int, Interval> right_by_steps;
};

struct Report {
  MapModel source;
  MapModel target;
  Hash256 map;
  bool fused = false;
  int n_documents = 0;                      // with at least one observation
  double n_tokens = 0;                      // of contexts
  std::vector<ConditionMetrics> texts;      // empty if no plain text was judged
  std::vector<ConditionMetrics> questions;  // empty if no question was judged
  std::vector<VariantFit> fits;             // indexed by KvVariant
  std::vector<std::vector<double>> cka_k;   // [target layer][source layer]
  std::vector<std::vector<double>> cka_v;
  std::vector<LayerMap> layers;  // the map's choices: sources, same_head and R^2, without matrices
};

// `observations` are all that `judge` returned, in order.
Report summarise(const KvMap& map, const Judge& judge, const std::vector<Observation>& observations);

// The measurements of each split, for judge_splits(). Answers are counted on questions. Divergence is measured on plain
// text; on questions only if there is no plain text, because there a map that improves answers diverges from native by
// design.
std::vector<SplitMetrics> split_metrics(const std::vector<Observation>& observations);

std::string to_text(const Report& report);       // Markdown tables
nlohmann::json to_json(const Report& report);    // everything; docs/measurements is rendered from it
std::string heat_map_svg(const Report& report);  // linear CKA of all pairs of layers; those that the map uses are framed

}  // namespace celslm
