// Regular expressions of JSON Schema (a subset of ECMA-262's) as GBNF.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace celslm {

// GBNF for the contents of a JSON string that the pattern matches, to stand between quotation marks. Without ^ or $ anything
// may come before or after, as JSON Schema has it. Supported: literals, ., classes, \d \w \s and their negations, escapes,
// groups, |, ? * + {m,n} (lazy ones mean the same). kInvalid names what is not: look-around, back references, \b, \p.
Result<std::string> pattern_grammar(std::string_view pattern);

}  // namespace celslm
