// Summarises the observations of a judgement: means, the correspondence of layers, and the measurements that the gate
// decides on. Confidence intervals and pictures are made of the observations by `./dev bench align` (bench/judge.py).
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "align/judge/judge.h"

namespace celslm {

// The metrics of one condition, over plain texts or over questions: sums over observations divided by sums.
struct ConditionMetrics {
  Condition condition;
  std::optional<double> kl;          // D(native || this), nats a token
  std::optional<double> kl_large;    // D(large model || this), nats a token; absent if the tokenizers differ
  std::optional<double> perplexity;  // of the forced tokens
  std::optional<double> greedy;      // share of the native greedy continuation reproduced, up to the first mismatch
  std::optional<double> right;       // share of questions answered correctly
  std::map<int, double> right_by_steps;
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
  std::vector<LayerMap> layers;           // the map's choices: sources, same_head and R^2, without matrices
  std::vector<Observation> observations;  // all that the metrics were computed from
};

// `observations` are all that `judge` returned, in order.
Report summarise(const KvMap& map, const Judge& judge, const std::vector<Observation>& observations);

// The measurements of each split, for judge_splits(). Answers are counted on questions. Divergence is measured on plain
// text; on questions only if there is no plain text, because there a map that improves answers diverges from native by
// design.
std::vector<SplitMetrics> split_metrics(const std::vector<Observation>& observations);

std::string to_text(const Report& report);     // Markdown tables of means
nlohmann::json to_json(const Report& report);  // the layers, and every observation with the keys of bench/judge.py

}  // namespace celslm
