// What a judgement amounts to: means with intervals, the correspondence of layers, and the verdict.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "align/judge/judge.h"

namespace celslm {

// A mean with its 95 % interval: the middle of what documents drawn again and again, as many as there are, give.
struct Interval {
  double value = 0.0;
  double low = 0.0;
  double high = 0.0;
};

// Sum of numerators over sum of denominators; one pair a document. Nothing where the denominators are all 0. The same
// figures for the same input.
struct Share {
  double part = 0.0;
  double whole = 0.0;
};
std::optional<Interval> bootstrap(std::span<const Share> documents);

// One way's figures on texts, or on questions.
struct WayFigures {
  Way way;
  std::optional<Interval> kl;          // D(native || this), nats a token
  std::optional<Interval> kl_large;    // D(large model || this), the same; nothing where tokens differ
  std::optional<Interval> perplexity;  // of the words that came
  std::optional<Interval> greedy;      // share of the native answer's tokens that this way says, too, up to the first other
  std::optional<Interval> right;       // share of questions
  std::map<int, Interval> right_by_steps;
};

struct Report {
  MapModel source;
  MapModel target;
  Hash256 map;
  bool fused = false;
  int n_documents = 0;                     // judged
  double n_tokens = 0;                     // of contexts
  std::vector<WayFigures> texts;           // empty where there were none
  std::vector<WayFigures> questions;       // the same
  std::vector<VariantFit> fits;            // by variant
  std::vector<std::vector<double>> cka_k;  // [target layer][source layer]
  std::vector<std::vector<double>> cka_v;
  std::vector<LayerMap> layers;  // of the map, matrices left out: which sources were chosen
};

Report summarise(const KvMap& map, const Judge& judge, const std::vector<Observation>& observations);

// Of each split judged: answers counted on questions, divergence on plain text (on questions where there is none: a model
// that answers better than it did by itself diverges from itself there).
std::vector<SplitFigures> split_figures(const std::vector<Observation>& observations);

std::string to_text(const Report& report);       // tables
nlohmann::json to_json(const Report& report);    // everything
std::string heat_map_svg(const Report& report);  // linear CKA of all pairs of layers; what the map uses is framed

}  // namespace celslm
