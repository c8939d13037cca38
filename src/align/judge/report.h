// What a judgement amounts to: plain means, the correspondence of layers, every observation, and the verdict. Intervals and
// pictures are made of the observations by `./dev bench align` (bench/judge.py).
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "align/judge/judge.h"

namespace celslm {

// One condition's means on texts, or on questions: sums over sums, so that each token, or question, counts as much.
struct ConditionMetrics {
  Condition condition;
  std::optional<double> kl;          // D(native || this), nats a token
  std::optional<double> kl_large;    // D(large model || this), the same; nothing where tokens differ
  std::optional<double> perplexity;  // of the words that came
  std::optional<double> greedy;  // share of the native answer's tokens that this condition gives, too, up to the first other
  std::optional<double> right;   // share of questions
  std::map<int, double> right_by_steps;
};

struct Report {
  MapModel source;
  MapModel target;
  Hash256 map;
  bool fused = false;
  int n_documents = 0;                      // judged
  double n_tokens = 0;                      // of contexts
  std::vector<ConditionMetrics> texts;      // empty where there were none
  std::vector<ConditionMetrics> questions;  // the same
  std::vector<VariantFit> fits;             // by variant
  std::vector<std::vector<double>> cka_k;   // [target layer][source layer]
  std::vector<std::vector<double>> cka_v;
  std::vector<LayerMap> layers;           // of the map, matrices left out: which sources were chosen
  std::vector<Observation> observations;  // all that the figures were made of
};

Report summarise(const KvMap& map, const Judge& judge, const std::vector<Observation>& observations);

// Of each split judged: answers counted on questions, divergence on plain text (on questions where there is none: a model
// that answers better than it did by itself diverges from itself there).
std::vector<SplitMetrics> split_metrics(const std::vector<Observation>& observations);

std::string to_text(const Report& report);     // tables of means
nlohmann::json to_json(const Report& report);  // the layers, and every observation; bench/judge.py says what its keys mean

}  // namespace celslm
