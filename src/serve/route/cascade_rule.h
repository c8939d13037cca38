// When an answer of the small model is good enough: a measure, and the threshold that was fitted for it.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include "core/hash.h"
#include "core/result.h"
#include "serve/route/confidence.h"

namespace celslm {

inline constexpr std::size_t kMaxRuleBytes = 64U << 10;

// As './dev bench cascade --rule FILE' writes it; docs/routing.md describes the file. `score` is one of the fields of
// Confidence, or ("weighted") a sum of them: bias + sum of weight * field.
struct CascadeRule {
  std::string measure = "least_probability";
  std::map<std::string, double> weights;  // of "weighted": by field; "bias" is the constant
  double threshold = 0;                   // below it the large model answers
  double share = 0;                       // of held-out questions that the large model answered with it: for people
  Hash256 model;                          // id of the small model that it was fitted for; zero: any

  bool needs_second_answer() const { return measure == "agreement" || weights.contains("agreement"); }
  double score(const Confidence& confidence) const;
  bool keeps(const Confidence& confidence) const { return score(confidence) >= threshold; }
};

// kInvalid with the field's name, also for an unknown measure.
Result<CascadeRule> cascade_rule_from(std::string_view json);

}  // namespace celslm
