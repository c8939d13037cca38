// Asks several questions about one context at once. Decoding is bound by reading the weights, so questions that share each
// step take hardly longer than one alone.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/engine/engine.h"

namespace celslm {

struct AskedQuestion {
  std::vector<Token> prompt;  // what follows the context; not empty
  std::vector<Token> gold;    // a correct answer; may be empty
};

struct AnsweredQuestion {
  std::vector<Token> reply;  // generated greedily, without the token that ends generation
  double gold_log_p = 0.0;   // log p(gold after the prompt), in nats, summed over gold's tokens
};

// The answers, in the order of the questions, each of at most `limit` tokens. `context` is not changed; null: there is none,
// and prompts begin at position 0. Questions are taken together up to kPrefillStep tokens of prompts and gold. Errors of the
// engine and of KvSegment::create; kInvalid for an empty prompt.
Result<std::vector<AnsweredQuestion>> answer_questions(Engine& engine, const std::shared_ptr<const KvSegment>& context,
                                                       std::span<const AskedQuestion> questions, int limit);

}  // namespace celslm
