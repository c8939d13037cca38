// Texts and token ids that a request gives, and the biases of tokens: `prompt`, `input`, `logit_bias`.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "model/text/text.h"

namespace celslm {

using Prompt = std::variant<std::string, std::vector<Token>>;

// One prompt (a string, or an array of token ids) or an array of prompts: at least one. kInvalid with the field's name. Ids
// are not compared with a vocabulary, which is not known here.
Result<std::vector<Prompt>> prompts_of(const JsonFields& fields, std::string_view name = "prompt");

// {"token id": bias from -100 to 100}; empty where the field is absent.
Result<std::vector<std::pair<Token, float>>> logit_bias_of(const JsonFields& fields);

}  // namespace celslm
