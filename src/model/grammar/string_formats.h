// The formats that a schema's strings may have.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace celslm {

// Their names, sorted.
std::vector<std::string_view> string_formats();

// GBNF for what is between the quotation marks. The shape is checked, not the meaning: 30 February is a date. kInvalid names
// the formats there are.
Result<std::string> format_grammar(std::string_view format);

}  // namespace celslm
