// How sure a model was of an answer, from the probabilities of its tokens. docs/routing.md has the formulas.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string_view>

#include "serve/openai/openai.h"

namespace celslm {

// Log probabilities that a token needs to have beside its own for the margins: of the two most probable tokens.
inline constexpr int kConfidenceTop = 2;

// All are 1 for an answer without tokens. p of a token: its probability given what came before it; margin: p less that of
// the most probable other token (negative where a less probable one was drawn).
struct Confidence {
  double least_probability = 1;
  double mean_probability = 1;  // geometric: exp of the mean log probability
  double least_margin = 1;
  double mean_margin = 1;
  double first_probability = 1;
  std::optional<double> agreement;  // of two answers: see agreement(); absent: there was one
  int tokens = 0;
};

nlohmann::json to_json(const Confidence& confidence);

// Takes an answer's tokens as they come; each with the kConfidenceTop most probable ones. Not thread-safe.
class ConfidenceMeter {
 public:
  void add(std::span<const TokenText> tokens);
  Confidence value() const;

 private:
  double sum_log_ = 0;
  double sum_margin_ = 0;
  double least_log_ = 0;
  double least_margin_ = 1;
  double first_log_ = 0;
  int tokens_ = 0;
};

// Of two texts, from 0 to 1: twice their common words over all their words (F1; case and punctuation do not count). Two
// texts without words agree.
double agreement(std::string_view a, std::string_view b);

// Leaves as many of each token's most probable ones as a client asked for.
void keep_top(std::span<TokenText> tokens, int n);

}  // namespace celslm
